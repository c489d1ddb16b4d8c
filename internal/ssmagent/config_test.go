package ssmagent

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestSetConfig(t *testing.T) {
	for _, c := range []struct {
		name string
		old  string
		set  Settings
		want string
	}{
		{"none yet", "", Settings{}, `{
    "Identity": {
        "ConsumptionOrder": [
            "OnPrem"
        ]
    }
}
`},
		{"unknown keys, order and numbers stay", `{"Zed":{"n":1.50e3},"Profile":{"KeyAutoRotateDays":30,"ShareProfile":""},"Alpha":null}`,
			Settings{ShareProfile: "ssm"}, `{
    "Zed": {
        "n": 1.50e3
    },
    "Profile": {
        "KeyAutoRotateDays": 30,
        "ShareProfile": "ssm"
    },
    "Alpha": null,
    "Identity": {
        "ConsumptionOrder": [
            "OnPrem"
        ]
    }
}
`},
		{"nothing to do leaves even the blanks", "{ \"Identity\":\t{\"ConsumptionOrder\":[\"OnPrem\"]}}", Settings{}, "{ \"Identity\":\t{\"ConsumptionOrder\":[\"OnPrem\"]}}"},
		{"names in any case, the last one counts", `{"ssm":{"endpoint":"a"},"SSM":{"Region":"r"},"identity":{"consumptionorder":["OnPrem"]}}`,
			Settings{SSMEndpoint: "b"}, `{
    "ssm": {
        "endpoint": "a"
    },
    "SSM": {
        "Region": "r",
        "Endpoint": "b"
    },
    "identity": {
        "consumptionorder": [
            "OnPrem"
        ]
    }
}
`},
		{"plain http serves ec2messages too", `{"Identity":{"ConsumptionOrder":["OnPrem"]}}`,
			Settings{SSMEndpoint: "http://127.0.0.1:8080", MGSEndpoint: "127.0.0.1:8443", S3Endpoint: "s3.example"}, `{
    "Identity": {
        "ConsumptionOrder": [
            "OnPrem"
        ]
    },
    "Ssm": {
        "Endpoint": "http://127.0.0.1:8080"
    },
    "Mds": {
        "Endpoint": "http://127.0.0.1:8080"
    },
    "Mgs": {
        "Endpoint": "https://127.0.0.1:8443"
    },
    "S3": {
        "Endpoint": "s3.example"
    }
}
`},
		{"sharing is turned on", `{"Profile":{"ShareCreds":false},"Identity":{"ConsumptionOrder":["OnPrem"]}}`, Settings{}, `{
    "Profile": {
        "ShareCreds": true
    },
    "Identity": {
        "ConsumptionOrder": [
            "OnPrem"
        ]
    }
}
`},
		{"an order with EC2", `{"Identity":{"ConsumptionOrder":["OnPrem","EC2"]}}`, Settings{}, `{
    "Identity": {
        "ConsumptionOrder": [
            "OnPrem"
        ]
    }
}
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := SetConfig([]byte(c.old), c.set)
			if err != nil || string(got) != c.want {
				t.Fatalf("got %s, error %v\nwant %s", got, err, c.want)
			}
			again, err := SetConfig(got, c.set)
			if err != nil || string(again) != c.want {
				t.Errorf("a second time: %s, error %v", again, err)
			}
		})
	}
}

func TestSetConfigRefuses(t *testing.T) {
	for _, c := range []struct {
		old  string
		set  Settings
		code failure.Code
		says string
	}{
		{"{\n  \"Ssm\": {,}\n}", Settings{}, failure.AgentConfig, ConfigPath + " cannot be understood: it is not JSON at line 2 (offset 13)"},
		{`{"Ssm": {`, Settings{}, failure.AgentConfig, "ends too early, at line 1 (offset 9)"},
		{`{"Ssm": "x"}`, Settings{}, failure.AgentConfig, "a JSON string is where something else belongs, at line 1"},
		{`[]`, Settings{}, failure.AgentConfig, "a JSON array is where something else belongs"},
		{`{} {}`, Settings{}, failure.AgentConfig, "not JSON at line 1"},
		{`{}`, Settings{MGSEndpoint: "http://127.0.0.1:8443"}, failure.Usage, "by https only"},
	} {
		got, err := SetConfig([]byte(c.old), c.set)
		if !failure.Is(err, c.code) || !strings.Contains(err.Error(), c.says) || got != nil {
			t.Errorf("%q: %q, error %v; want %s: %s", c.old, got, err, c.code, c.says)
		}
	}
}

func TestReadConfig(t *testing.T) {
	m := newMachine(t)
	c, err := ReadConfig(m.reader())
	if err != nil || !reflect.DeepEqual(c, Config{ShareCreds: true}) {
		t.Errorf("without a file: %+v, %v", c, err)
	}
	m.write(ConfigPath, `{"Profile":{"ShareCreds":false,"ShareProfile":"ssm"},"Ssm":{"Endpoint":"a"},"Mds":{"Endpoint":"b"},"Mgs":{"Endpoint":"c"},"S3":{"Endpoint":"d"},"Identity":{"ConsumptionOrder":["OnPrem"]}}`)
	c, err = ReadConfig(m.reader())
	want := Config{
		Exists: true, ShareProfile: "ssm", ConsumptionOrder: []string{"OnPrem"},
		SSMEndpoint: "a", MDSEndpoint: "b", MGSEndpoint: "c", S3Endpoint: "d",
	}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %v; want %+v", c, err, want)
	}
	m.write(ConfigPath, `{`)
	if _, err = ReadConfig(m.reader()); !failure.Is(err, failure.AgentConfig) {
		t.Errorf("error %v, want the code agent_configuration", err)
	}
}

func FuzzSetConfig(f *testing.F) {
	for _, text := range []string{"", "{}", "null", `{"Ssm":null,"ssm":{}}`, `{"Identity":{"ConsumptionOrder":["EC2"]},"identity":{}}`, `{"a":1e999,"b":"\ud800"}`, `{"":{"":""}}`} {
		f.Add([]byte(text), "http://127.0.0.1:1", "ssm")
	}
	f.Fuzz(func(t *testing.T, old []byte, endpoint, profile string) {
		set := Settings{SSMEndpoint: endpoint, ShareProfile: profile}
		got, err := SetConfig(old, set)
		if err != nil {
			return
		}
		c, err := parseConfig(got)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, got)
		}
		if !c.ShareCreds || !reflect.DeepEqual(c.ConsumptionOrder, []string{"OnPrem"}) {
			t.Errorf("not set: %+v", c)
		}
		if utf8.ValidString(endpoint) && endpoint != "" && c.SSMEndpoint != endpoint {
			t.Errorf("endpoint %q became %q", endpoint, c.SSMEndpoint)
		}
		again, err := SetConfig(got, Settings{})
		if err != nil || string(again) != string(got) {
			t.Errorf("not stable: %s, %v", again, err)
		}
		var before, after map[string]json.RawMessage
		if json.Unmarshal(old, &before) != nil {
			return // an empty file
		}
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatal(err)
		}
		for name := range before {
			if _, ok := after[name]; !ok {
				t.Errorf("key %q was lost", name)
			}
		}
	})
}
