package simagent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// awsError is a service's refusal, with the text that the SDK of the SSM agent (version 1) gives it.
type awsError struct {
	Code, Message string
	Status        int
	RequestID     string
}

func (e *awsError) Error() string {
	return fmt.Sprintf("%s: %s\n\tstatus code: %d, request id: %s", e.Code, e.Message, e.Status, e.RequestID)
}

func (e *awsError) retryable() bool {
	return e.Status >= 500 || e.Code == "ThrottlingException" || e.Code == "RequestExpired"
}

// authorizer signs a request; its body is given because the request's can be read once.
type authorizer func(r *http.Request, body []byte) error

const jsonType = "application/x-amz-json-1.1"

// post makes one call of an AWS JSON service.
func (p *Place) post(ctx context.Context, endpoint, target, agent string, in, out any, sign authorizer) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", jsonType)
	r.Header.Set("X-Amz-Target", target)
	r.Header.Set("User-Agent", agent)
	if sign != nil {
		if err := sign(r, body); err != nil {
			return err
		}
	}
	answer, err := p.client().Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		failed := &awsError{Status: answer.StatusCode, RequestID: answer.Header.Get("X-Amzn-Requestid")}
		var shape struct {
			Type    string `json:"__type"`
			Message string
		}
		_ = json.Unmarshal(data, &shape) // no JSON: a proxy's page; the status says enough
		failed.Code, failed.Message = shape.Type[strings.LastIndex(shape.Type, "#")+1:], shape.Message
		if failed.Code == "" {
			failed.Code = "UnknownError"
		}
		return failed
	}
	return json.Unmarshal(data, out)
}

// ssmCall is post as the SSM agent does it: four requests, 2^n times one to one and a half seconds apart.
func (s *SSM) ssmCall(ctx context.Context, endpoint, operation string, in, out any, sign authorizer) error {
	agent := "aws-sdk-go/1.51.20 (go1.26; linux; amd64) amazon-ssm-agent/" + s.version()
	for n := 0; ; n++ {
		err := s.post(ctx, endpoint, "AmazonSSM."+operation, agent, in, out, sign)
		var refused *awsError
		if err == nil || errors.As(err, &refused) && !refused.retryable() || n == 3 || ctx.Err() != nil {
			if network := (*url.Error)(nil); errors.As(err, &network) {
				return fmt.Errorf("RequestError: send request failed\ncaused by: %w", err)
			}
			return err
		}
		wait := time.Duration(float64(time.Second<<n) * (1 + mathrand.Float64()/2))
		if err := s.pause(ctx, wait); err != nil {
			return err
		}
	}
}

// signRSA signs as the SSM agent does with the node's private key: the header of Signature Version 4 with RSA-PSS over
// its string to sign, the managed instance's id for the access key, and the body sent chunked.
func (s *SSM) signRSA(k registrationKey) authorizer {
	return func(r *http.Request, body []byte) error {
		private, err := k.signer()
		if err != nil {
			return err
		}
		stamp := s.now().UTC().Format("20060102T150405Z")
		hash := sha256.Sum256(body)
		r.Header.Set("X-Amz-Date", stamp)
		r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(hash[:]))
		const names = "content-type;host;x-amz-date;x-amz-target"
		canonical := fmt.Sprintf("POST\n/\n\ncontent-type:%s\nhost:%s\nx-amz-date:%s\nx-amz-target:%s\n\n%s\n%x",
			r.Header.Get("Content-Type"), r.URL.Host, stamp, r.Header.Get("X-Amz-Target"), names, hash)
		scope := stamp[:8] + "/" + k.Region + "/ssm/aws4_request"
		digest := sha256.Sum256(fmt.Appendf(nil, "AWS4-HMAC-SHA256\n%s\n%s\n%x", stamp, scope,
			sha256.Sum256([]byte(canonical))))
		signature, err := rsa.SignPSS(rand.Reader, private, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: 32})
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
			k.InstanceID, scope, names, base64.StdEncoding.EncodeToString(signature)))
		r.ContentLength = -1 // unknown: net/http then sends chunks
		return nil
	}
}

// accessKeys are temporary keys of the node's role.
type accessKeys struct{ ID, Secret, Token string }

// signV4 signs a call in the ordinary way.
func (p *Place) signV4(keys accessKeys, service, region string) authorizer {
	return func(r *http.Request, body []byte) error {
		hash := sha256.Sum256(body)
		return v4.NewSigner().SignHTTP(r.Context(), aws.Credentials{
			AccessKeyID: keys.ID, SecretAccessKey: keys.Secret, SessionToken: keys.Token,
		}, r, hex.EncodeToString(hash[:]), service, region, p.now())
	}
}
