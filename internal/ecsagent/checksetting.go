package ecsagent

import (
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// CheckSetting judges one --ecs-config KEY=VALUE. It refuses, with failure.Usage, a key that is unknown (naming the nearest
// known one), that register sets by itself or that does harm on an external instance, and a value that the agent could
// not read or that systemd and ecs-init would not read alike.
func CheckSetting(key, value string) error {
	s, ok := known(key)
	switch {
	case !ok:
		err := failure.New(failure.Usage, "the ECS agent has no setting %s", key)
		if near := nearest(key); near != "" {
			return err.WithRemedy("did you mean --ecs-config %s=…?", near)
		}
		return err.WithRemedy("names are written in capitals, without blanks; " +
			"the README of github.com/aws/amazon-ecs-agent lists them")
	case s.Flag != "":
		return failure.New(failure.Usage, "%s cannot be given with --ecs-config: %s sets it", key, s.Flag).
			WithRemedy("leave --ecs-config %s out", key)
	case s.Refused != "":
		return failure.New(failure.Usage, "%s must not be set on an external instance: %s", key, s.Refused).
			WithRemedy("leave --ecs-config %s out", key)
	case value == "":
		return failure.New(failure.Usage, "%s has no value; the agent takes that for not set", key).
			WithRemedy("give --ecs-config %s=VALUE, or leave it out", key)
	}
	if wrong := s.wrong(strings.TrimSpace(value)); wrong != "" {
		return failure.New(failure.Usage, "%s %s", key, wrong).WithRemedy("correct the value in --ecs-config %s=…", key)
	}
	if why := readDifferently(s, value); why != "" {
		return failure.New(failure.Usage, "%s: %s", key, why).
			WithRemedy("write the value of %s plain, without outer quotes, blanks or backslashes", key)
	}
	return nil
}

// readDifferently says why systemd and ecs-init would not read key=value alike; empty when they do. Inside JSON for the
// agent a backslash may stand: only ecs-init's reading gets there.
func readDifferently(s Setting, value string) string {
	if !oneLine(s.Name, value) {
		return "the value does not stay on one line: systemd would read on into the next one, or ecs-init would cut it"
	}
	read := host.ParseEnvironmentFile(s.Name + "=" + value)
	json := s.Kind == jsonMap || s.Kind == jsonList || s.Kind == jsonAny
	if len(read) == 1 && (read[0].Value == value || json && !s.Init) {
		return ""
	}
	return "systemd takes quotes and backslashes away, ecs-init keeps them, so the two would read different values"
}

// nearest is the known setting that key was most likely meant to be; empty when none is near.
func nearest(key string) string {
	key = strings.ToUpper(strings.TrimSpace(strings.TrimPrefix(key, "export ")))
	best, at := "", 1+len(key)/4 // a quarter of the letters may be wrong
	for _, s := range Settings {
		if s.Refused != "" {
			continue
		}
		if d := distance(key, strings.ToUpper(s.Name)); d < at || d == 0 {
			best, at = s.Name, d
		}
	}
	return best
}

// distance is the number of letters to add, drop or change to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := slices.Clone(row)
		row[0] = i + 1
		for j := range len(b) {
			change := previous[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, previous[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
