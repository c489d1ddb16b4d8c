package emulator

import (
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"
)

// maxSkew is how far a signature's time may be from the service's. AWS: five minutes, as its own error text says.
const maxSkew = 5 * time.Minute

const (
	algorithm  = "AWS4-HMAC-SHA256"
	timeLayout = "20060102T150405Z"
)

// signed is the Authorization header of a request, taken apart.
type signed struct {
	keyID, date, region, service string
	headers                      []string
	signature                    string
	at                           time.Time // X-Amz-Date
	stamp                        string
}

// parseSignature takes the Authorization header apart. A request without one is anonymous: nil, nil.
func parseSignature(r *http.Request) (*signed, *apiError) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, nil
	}
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return nil, newError("IncompleteSignatureException", "Authorization header requires '%s'", algorithm)
	}
	parts := map[string]string{}
	for _, part := range strings.Split(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	scope := strings.Split(parts["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" || parts["SignedHeaders"] == "" || parts["Signature"] == "" {
		return nil, newError("IncompleteSignatureException",
			"Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters")
	}
	s := &signed{
		keyID: scope[0], date: scope[1], region: scope[2], service: scope[3],
		headers: strings.Split(parts["SignedHeaders"], ";"), signature: parts["Signature"],
		stamp: r.Header.Get("X-Amz-Date"),
	}
	var err error
	if s.at, err = time.Parse(timeLayout, s.stamp); err != nil {
		return nil, newError("IncompleteSignatureException", "Date must be in ISO-8601 'basic format'. Got '%s'", s.stamp)
	}
	return s, nil
}

// checkTime refuses signatures from clocks that are wrong.
func (s *signed) checkTime(now time.Time) *apiError {
	now = now.UTC()
	switch {
	case s.at.Before(now.Add(-maxSkew)):
		return newError("InvalidSignatureException", "Signature expired: %s is now earlier than %s (%s - 5 min.)",
			s.stamp, now.Add(-maxSkew).Format(timeLayout), now.Format(timeLayout))
	case s.at.After(now.Add(maxSkew)):
		return newError("InvalidSignatureException", "Signature not yet current: %s is still later than %s (%s + 5 min.)",
			s.stamp, now.Add(maxSkew).Format(timeLayout), now.Format(timeLayout))
	case s.date != s.stamp[:8]:
		return newError("InvalidSignatureException",
			"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s'",
			s.date, s.stamp[:8])
	}
	return nil
}

// checkScope refuses signatures made for another Region or service, or for any host.
func (s *signed) checkScope(region, service string) *apiError {
	if !has(s.headers, "host") {
		return newError("InvalidSignatureException", "'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if s.region != region || s.service != service {
		return newError("InvalidSignatureException", "Credential should be scoped to a valid region and to service '%s', "+
			"not '%s/%s'.", service, s.region, s.service)
	}
	return nil
}

var errSignature = newError("InvalidSignatureException", "The request signature we calculated does not match the "+
	"signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for "+
	"details.")

// checkHMAC verifies an ordinary Signature Version 4.
func (s *signed) checkHMAC(r *http.Request, body []byte, secretKey string) *apiError {
	mac := []byte("AWS4" + secretKey)
	for _, part := range []string{s.date, s.region, s.service, "aws4_request", s.stringToSign(r, body)} {
		h := hmac.New(sha256.New, mac)
		h.Write([]byte(part))
		mac = h.Sum(nil)
	}
	if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(mac)), []byte(s.signature)) != 1 {
		return errSignature
	}
	return nil
}

// checkRSA verifies what SSM Agent makes of Signature Version 4: the same string to sign, under the node's own private
// key, RSA-PSS with SHA-256 and a salt of 32 bytes (ssm-agent 3.3, rsaauth; seen on the wire 2026-11-22).
func (s *signed) checkRSA(r *http.Request, body []byte, public *rsa.PublicKey) *apiError {
	signature, err := base64.StdEncoding.DecodeString(s.signature)
	if err != nil {
		return errSignature
	}
	digest := sha256.Sum256([]byte(s.stringToSign(r, body)))
	if rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: 32}) != nil {
		return errSignature
	}
	return nil
}

// stringToSign rebuilds what the caller signed, from the request as it arrived and the body as it was read.
func (s *signed) stringToSign(r *http.Request, body []byte) string {
	scope := strings.Join([]string{s.date, s.region, s.service, "aws4_request"}, "/")
	hash := sha256.Sum256([]byte(s.canonical(r, body)))
	return strings.Join([]string{algorithm, s.stamp, scope, hex.EncodeToString(hash[:])}, "\n")
}

func (s *signed) canonical(r *http.Request, body []byte) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + canonicalPath(r.URL) + "\n" + canonicalQuery(r.URL) + "\n")
	for _, name := range s.headers {
		b.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	hash := sha256.Sum256(body)
	fmt.Fprintf(&b, "\n%s\n%s", strings.Join(s.headers, ";"), hex.EncodeToString(hash[:]))
	return b.String()
}

// headerValue is a header as the caller signed it. Go's server takes some out of the map.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	case "transfer-encoding":
		return strings.Join(r.TransferEncoding, ",")
	}
	values := r.Header.Values(name)
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}

// canonicalPath escapes the escaped path once more, as every service but S3 wants it.
func canonicalPath(u *url.URL) string {
	if u.EscapedPath() == "" {
		return "/"
	}
	return strings.ReplaceAll(escape(u.EscapedPath()), "%2F", "/")
}

func canonicalQuery(u *url.URL) string {
	var pairs []string
	for name, values := range u.Query() {
		for _, v := range values {
			pairs = append(pairs, escape(name)+"="+escape(v))
		}
	}
	sort.Strings(pairs)
	return strings.Join(pairs, "&")
}

// escape is RFC 3986's: url.QueryEscape writes a blank as "+" and leaves "~" alone.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
