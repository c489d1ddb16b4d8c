package ecsagent

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// What each of the two readers makes of the same text.
func TestTwoReaders(t *testing.T) {
	type vars map[string]string
	tests := []struct {
		name, text string
		systemd    vars
		init       vars
	}{
		{"plain", "A=1\n", vars{"A": "1"}, vars{"A": "1"}},
		{"no newline at the end", "A=1", vars{"A": "1"}, vars{"A": "1"}},
		{"empty value", "A=\nB=2\n", vars{"A": "", "B": "2"}, vars{"A": "", "B": "2"}},
		{"the last one wins", "A=1\nA=2\n", vars{"A": "2"}, vars{"A": "2"}},
		{"equals sign in the value", "A=b=c\n", vars{"A": "b=c"}, vars{"A": "b=c"}},
		{"carriage returns", "A=1\r\nB=2\r\n", vars{"A": "1", "B": "2"}, vars{"A": "1", "B": "2"}},
		{"blanks around the line", "  A=1  \n", vars{"A": "1"}, vars{"A": "1"}},
		{"blank before the equals sign", "A =1\n", vars{"A": "1"}, vars{"A ": "1"}},
		{"blank after the equals sign", "A= 1\n", vars{"A": "1"}, vars{"A": " 1"}},
		{"double quotes", `A="true"`, vars{"A": "true"}, vars{"A": `"true"`}},
		{"single quotes", `A='true'`, vars{"A": "true"}, vars{"A": "'true'"}},
		{"quoted blanks stay", `A="  x "`, vars{"A": "  x "}, vars{"A": `"  x "`}},
		{"text after a quote", `A="x"y`, vars{"A": "xy"}, vars{"A": `"x"y`}},
		{"two quotes", `A="x" 'y'`, vars{"A": "xy"}, vars{"A": `"x" 'y'`}},
		{"quotes inside a bare value stay", `A={"a":"b"}`, vars{"A": `{"a":"b"}`}, vars{"A": `{"a":"b"}`}},
		{"quoted JSON", `A='{"a":"b"}'`, vars{"A": `{"a":"b"}`}, vars{"A": `'{"a":"b"}'`}},
		{"JSON in double quotes loses its own", `A="{"a":"b"}"`, vars{"A": `{a":"b"}"`}, vars{"A": `"{"a":"b"}"`}},
		{"backslash in a bare value", `A=a\b\\c`, vars{"A": `ab\c`}, vars{"A": `a\b\\c`}},
		{"backslash in double quotes", `A="a\b\"\$\\"`, vars{"A": `a\b"$\`}, vars{"A": `"a\b\"\$\\"`}},
		{"backslash in single quotes", `A='a\b'`, vars{"A": `a\b`}, vars{"A": `'a\b'`}},
		{"escaped blank at the end", "A=x\\ \nB=1\n", vars{"A": "x ", "B": "1"}, vars{"A": `x\`, "B": "1"}},
		{"blanks after an escaped one", "A=x\\   \n", vars{"A": "x "}, vars{"A": `x\`}},
		{"backslash at the end of a line", "A=x\\\nB=1\n", vars{"A": "xB=1"}, vars{"A": `x\`, "B": "1"}},
		{"open quote swallows lines", "A=\"x\nB=1\n", vars{"A": "x\nB=1\n"}, vars{"A": `"x`, "B": "1"}},
		{"backslash at the end inside quotes", "A=\"x\\\ny\"\n", vars{"A": "xy"}, vars{"A": `"x\`}},
		{"hash comment", "#A=1\nB=2\n", vars{"B": "2"}, vars{"#A": "1", "B": "2"}},
		{"semicolon comment", "; A=1\nB=2\n", vars{"B": "2"}, vars{"; A": "1", "B": "2"}},
		{"a hash inside a value is no comment", "A=1 # one\n", vars{"A": "1 # one"}, vars{"A": "1 # one"}},
		{"comment that ends in a backslash, systemd 254", "# x\\\nB=2\n", vars{"B": "2"}, vars{"B": "2"}},
		{"export", "export A=1\n", vars{}, vars{"export A": "1"}},
		{"no equals sign", "A\nB=2\n", vars{"B": "2"}, vars{"B": "2"}},
		{"name with a dash", "A-B=1\n", vars{}, vars{"A-B": "1"}},
		{"name with a digit in front", "1A=1\n", vars{}, vars{"1A": "1"}},
		{"byte order mark", "\ufeffA=1\nB=2\n", vars{"B": "2"}, vars{"\ufeffA": "1", "B": "2"}},
		{"not UTF-8", "A=\xff\nB=2\n", vars{}, vars{"A": "\xff", "B": "2"}},
		{"dollar and tilde are not expanded", "A=$HOME~`x`\n", vars{"A": "$HOME~`x`"}, vars{"A": "$HOME~`x`"}},
		{"empty", "", vars{}, vars{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			systemd := vars{}
			for _, a := range host.ParseEnvironmentFile(tt.text) {
				systemd[a.Key] = a.Value
			}
			if diff := cmp.Diff(tt.systemd, systemd); diff != "" {
				t.Errorf("systemd (-want +got):\n%s", diff)
			}
			file, init := Parse([]byte(tt.text)), vars{}
			for key := range maps.Keys(tt.init) {
				init[key], _ = file.Get(key)
			}
			if diff := cmp.Diff(tt.init, init); diff != "" {
				t.Errorf("ecs-init (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseEnvironmentTellsLines(t *testing.T) {
	got := host.ParseEnvironmentFile("# c\nA=1\n\nB=\"x\ny\"\nC=3\n")
	want := []host.Assignment{
		{Key: "A", Value: "1", Line: 2}, {Key: "B", Value: "x\ny", Line: 4}, {Key: "C", Value: "3", Line: 6},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
