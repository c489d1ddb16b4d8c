package emulator

import (
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
)

// queryCodes are the names that the query protocol has for what the JSON services call otherwise.
var queryCodes = map[string]string{
	"UnrecognizedClientException": "InvalidClientTokenId", "ExpiredTokenException": "ExpiredToken",
	"InvalidSignatureException": "SignatureDoesNotMatch", "AccessDeniedException": "AccessDenied",
	"ThrottlingException": "Throttling", "MissingAuthenticationTokenException": "MissingAuthenticationToken",
	"IncompleteSignatureException": "IncompleteSignature", "InternalServerError": "InternalFailure",
}

// querySpace are the namespaces of the query protocol's services.
var querySpace = map[string]string{
	"sts": "https://sts.amazonaws.com/doc/2011-06-15/", "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
}

// queryCall is a request of the query protocol.
type queryCall struct {
	service, action, signer string
	form                    url.Values
}

// serveQuery answers STS and IAM: forms in, XML out.
func (e *Emulator) serveQuery(w http.ResponseWriter, r *http.Request) {
	c := &queryCall{service: "sts", action: "unknown"}
	result, failed := e.query(c, r)
	answer := queryAnswer(querySpace[c.service], c.action, result)
	status, code := http.StatusOK, ""
	if failed != nil {
		status, code = failed.status, failed.code
		if name, ok := queryCodes[code]; ok {
			code = name
			if status == http.StatusBadRequest {
				status = http.StatusForbidden
			}
		}
		answer = "<ErrorResponse xmlns=\"" + querySpace[c.service] + "\"><Error><Type>Sender</Type><Code>" + code +
			"</Code><Message>" + escapeXML(failed.message) + "</Message></Error></ErrorResponse>"
	}
	e.record(c.service+":"+c.action, c.signer, status, code)
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer)
}

func (e *Emulator) query(c *queryCall, r *http.Request) (result any, failed *apiError) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, 1<<20))
	form, parseErr := url.ParseQuery(string(body))
	if err != nil || parseErr != nil {
		return nil, newError("MalformedQueryString", "the request's body is not a form")
	}
	c.action, c.form = form.Get("Action"), form
	if form.Get("Version") == "2010-05-08" {
		c.service = "iam"
	}
	if failed := e.upset(c.service); failed != nil {
		return nil, failed
	}
	sign, failed := parseSignature(r)
	if failed != nil {
		return nil, failed
	}
	if sign != nil {
		c.signer = sign.keyID
	}
	k, failed := e.authenticate(r, sign, body, c.service)
	if failed != nil {
		return nil, failed
	}
	if failed = e.authorize(k, c.service+":"+c.action); failed != nil && c.action != "GetCallerIdentity" { // which needs no right
		return nil, failed
	}
	if c.service == "iam" {
		return e.iam(c.action, form)
	}
	if c.action != "GetCallerIdentity" {
		return nil, newError("InvalidAction", "Could not find operation %s", c.action)
	}
	return struct{ Arn, UserId, Account string }{e.callerARN(k), "AIDA" + k.ID[4:], e.opts.Account}, nil
}

func escapeXML(s string) string {
	var b writer
	_ = xml.EscapeText(&b, []byte(s)) // it fails only when its writer does
	return string(b)
}

type writer []byte

func (w *writer) Write(p []byte) (int, error) { *w = append(*w, p...); return len(p), nil }
