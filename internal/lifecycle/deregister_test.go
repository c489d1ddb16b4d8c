package lifecycle

import (
	"strings"
	"testing"
)

// What AWS was too slow for is finished by a command that does not need the host to know what it was.
func TestLookAgain(t *testing.T) {
	const node, arn = "mi-0123456789abcdef0", "arn:aws:ecs:eu-west-1:123456789012:container-instance/shop/0123456789abcdef0123456789abcdef"
	for _, test := range []struct {
		f    farewell
		want string
	}{
		{farewell{region: "eu-west-1", node: node, instance: arn, ssm: true}, "--region eu-west-1 --instance " + node + " looks"},
		{farewell{region: "eu-west-1", node: node, instance: arn}, "--instance " + node + " --keep-ssm looks"},
		{farewell{region: "eu-west-1", instance: arn}, "--instance " + arn + " looks"},
	} {
		if got := test.f.lookAgain(); !strings.Contains(got, test.want) {
			t.Errorf("%q; want %q", got, test.want)
		}
	}
}
