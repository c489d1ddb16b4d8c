package cli_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

const (
	awsKey    = "aws" // of a script's values
	awsRegion = "eu-central-1"
)

// Operators of a script's AWS: one may do everything, one nothing.
const (
	operatorKey, idleKey = "AKIAOPERATOR00000001", "AKIAIDLER00000000001"
	operatorSecret       = "the-operators-secret-key"
)

func newAWS() *emulator.Emulator {
	e := emulator.New(emulator.Options{Account: "111122223333", Region: awsRegion})
	e.AddCluster("shop")
	e.AddOperator(emulator.Key{ID: operatorKey, Secret: secret.NewText(operatorSecret)})
	e.AddOperator(emulator.Key{ID: idleKey, Secret: secret.NewText(operatorSecret), Deny: []string{"*"}})
	return e
}

func awsOf(ts *testscript.TestScript) *emulator.Emulator {
	return ts.Value(awsKey).(*emulator.Emulator)
}

// aws: from here on the script's environment is that of an operator.
func startAWS(ts *testscript.TestScript, _ bool, _ []string) {
	e := awsOf(ts)
	ts.Check(e.Start("127.0.0.1:0"))
	ts.Defer(func() { _ = e.Close() })
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": e.URL(), "AWS_REGION": awsRegion,
		"AWS_ACCESS_KEY_ID": operatorKey, "AWS_SECRET_ACCESS_KEY": operatorSecret, "IDLE_KEY": idleKey,
	} {
		ts.Setenv(name, value)
	}
}

// handed {token | code | json-token | json-code | FILE}: the last command handed a secret over there, a real one, and
// nowhere else: not in its messages, and in no file of the host.
func handed(ts *testscript.TestScript, _ bool, args []string) {
	stdout := ts.ReadFile("stdout")
	var doc struct {
		Result struct{ ActivationID, ActivationCode, Token string }
	}
	var found string
	switch args[0] {
	case "token":
		found = stdout
	case "code":
		_, after, _ := strings.Cut(stdout, "activation code")
		found = strings.Fields(after)[0]
	case "json-token", "json-code":
		ts.Check(json.Unmarshal([]byte(stdout), &doc))
		found = doc.Result.Token + doc.Result.ActivationCode // never both
	default:
		info, err := os.Stat(ts.MkAbs(args[0]))
		ts.Check(err)
		if info.Mode().Perm() != 0o600 {
			ts.Fatalf("%s has mode %v", args[0], info.Mode())
		}
		found = ts.ReadFile(args[0])
		if strings.Contains(stdout, strings.TrimSpace(found)) {
			ts.Fatalf("the secret is in a file, and on stdout too")
		}
	}
	found = strings.TrimSuffix(found, "\n")
	secrets := []string{found}
	if strings.HasPrefix(found, control.TokenPrefix) {
		token, err := control.ParseToken(found)
		ts.Check(err)
		if left, known := awsOf(ts).ActivationsLeft(token.ActivationID); !known || left < 1 || token.Cluster != "shop" {
			ts.Fatalf("AWS does not have the token's activation %s, or it is for cluster %s", token.ActivationID, token.Cluster)
		}
		secrets = append(secrets, token.Code.Reveal())
	} else if len(found) != 20 { // the emulator's codes
		ts.Fatalf("%q is no activation code", found)
	}
	ts.Check(filepath.WalkDir(ts.MkAbs("host"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, s := range append(secrets, operatorSecret) {
			if strings.Contains(string(text), s) {
				ts.Fatalf("a secret is in %s", path)
			}
		}
		return err
	}))
	for _, s := range append(secrets, operatorSecret) {
		if strings.Contains(ts.ReadFile("stderr"), s) {
			ts.Fatalf("a secret is on stderr")
		}
	}
}
