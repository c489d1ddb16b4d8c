package control

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

func goodToken() Token {
	return Token{
		Account: "123456789012", Region: "eu-west-1", Cluster: "prod", ActivationID: "11111111-2222-4333-8444-555555555555",
		Code: secret.NewText("canary/Code+0123456789"), Expires: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
	}
}

func TestTokenRoundTrip(t *testing.T) {
	want := goodToken()
	for _, line := range []string{want.Encode(), "  " + want.Encode() + "\r\n"} {
		got, err := ParseToken(line)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if line := want.Encode(); !strings.HasPrefix(line, "anywhere1.") || strings.ContainsAny(line, "+/= \n") {
		t.Errorf("the token is not one word for a shell: %q", line)
	}
}

func TestBadTokensAreRefusedUnechoed(t *testing.T) {
	good := goodToken().Encode()
	changed := func(change func(*Token)) string {
		token := goodToken()
		change(&token)
		return token.Encode()
	}
	swapped := []byte(good)
	if swapped[40]++; swapped[40] == 'z'+1 {
		swapped[40] = 'a'
	}
	for name, line := range map[string]string{
		"empty":           " \n",
		"other prefix":    "k10" + good,
		"cut":             good[:len(good)-5],
		"prefix only":     TokenPrefix,
		"cut to the sum":  good[:len(TokenPrefix)+4],
		"one letter":      string(swapped),
		"broken in two":   good[:50] + "\n" + good[50:],
		"standard base64": TokenPrefix + "ab+/" + good[len(TokenPrefix):],
		"other content":   TokenPrefix + base64.RawURLEncoding.EncodeToString([]byte("abcd{}")),
		"account":         changed(func(t *Token) { t.Account = "12345" }),
		"cluster":         changed(func(t *Token) { t.Cluster = "a b" }),
		"activation id":   changed(func(t *Token) { t.ActivationID = "canary-id-0123456789" }),
		"short code":      changed(func(t *Token) { t.Code = secret.NewText("canary") }),
		"no region":       changed(func(t *Token) { t.Region = "" }),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseToken(line)
			if !failure.Is(err, failure.InvalidToken) {
				t.Fatalf("err = %v", err)
			}
			f := failure.Of(err)
			if said := f.Message + f.Evidence + f.Advice(); strings.Contains(said, "canary") || len(line) > 20 && strings.Contains(said, line[12:]) {
				t.Errorf("the token's text is in the error: %s", said)
			}
			if !strings.Contains(f.Message, "--token") {
				t.Errorf("the error does not name the flag: %s", f.Message)
			}
		})
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(goodToken().Encode())
	f.Add("anywhere1.")
	f.Fuzz(func(t *testing.T, line string) {
		token, err := ParseToken(line)
		if err == nil && token.validate() != nil {
			t.Error("an invalid token was accepted")
		}
	})
}
