package emulator

import (
	"encoding/xml"
	"fmt"
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

// serveQuery answers STS: forms in, XML out.
func (e *Emulator) serveQuery(w http.ResponseWriter, r *http.Request) {
	answer, signer, action, failed := e.query(r)
	status, code := http.StatusOK, ""
	if failed != nil {
		status, code = failed.status, failed.code
		if status == http.StatusBadRequest {
			status = http.StatusForbidden
		}
		if name, ok := queryCodes[code]; ok {
			code = name
		}
		answer = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>" +
			code + "</Code><Message>" + escapeXML(failed.message) + "</Message></Error></ErrorResponse>"
	}
	e.record("sts:"+action, signer, status, code)
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer)
}

func (e *Emulator) query(r *http.Request) (answer, signer, action string, failed *apiError) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, 1<<20))
	form, parseErr := url.ParseQuery(string(body))
	if err != nil || parseErr != nil {
		return "", "", "unknown", newError("MalformedQueryString", "the request's body is not a form")
	}
	action = form.Get("Action")
	if failed := e.upset("sts"); failed != nil {
		return "", "", action, failed
	}
	sign, failed := parseSignature(r)
	if failed != nil {
		return "", "", action, failed
	}
	if sign != nil {
		signer = sign.keyID
	}
	k, failed := e.authenticate(r, sign, body, "sts")
	if failed != nil {
		return "", signer, action, failed
	}
	if action != "GetCallerIdentity" {
		return "", signer, action, newError("InvalidAction", "Could not find operation %s", action)
	}
	return fmt.Sprintf("<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"+
		"<GetCallerIdentityResult><Arn>%s</Arn><UserId>%s</UserId><Account>%s</Account></GetCallerIdentityResult>"+
		"<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></GetCallerIdentityResponse>",
		e.callerARN(k), "AIDA"+k.ID[4:], e.opts.Account, uuid()), signer, action, nil
}

func escapeXML(s string) string {
	var b writer
	_ = xml.EscapeText(&b, []byte(s)) // it fails only when its writer does
	return string(b)
}

type writer []byte

func (w *writer) Write(p []byte) (int, error) { *w = append(*w, p...); return len(p), nil }
