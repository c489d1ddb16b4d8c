package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// refusals are the codes of AWS's errors, as all its services use them, and what they mean to us. Source: "Common
// errors" of the ECS, SSM and STS API references, and the errors of the operations used here, read 2026-11-22.
var refusals = map[string]failure.Code{
	"AccessDenied": failure.AccessDenied, "AccessDeniedException": failure.AccessDenied,
	"UnauthorizedOperation": failure.AccessDenied, "NotAuthorized": failure.AccessDenied,

	"UnrecognizedClientException": failure.CredentialsInvalid, "InvalidClientTokenId": failure.CredentialsInvalid,
	"SignatureDoesNotMatch": failure.CredentialsInvalid, "InvalidSignatureException": failure.CredentialsInvalid,
	"MissingAuthenticationToken":          failure.CredentialsInvalid,
	"MissingAuthenticationTokenException": failure.CredentialsInvalid,
	"IncompleteSignature":                 failure.CredentialsInvalid,
	"IncompleteSignatureException":        failure.CredentialsInvalid,
	"AuthFailure":                         failure.CredentialsInvalid,
	"OptInRequired":                       failure.CredentialsInvalid, // the account or the Region is not enabled

	"ExpiredToken": failure.CredentialsExpired, "ExpiredTokenException": failure.CredentialsExpired,
	"RequestTimeTooSkewed": failure.ClockSkew, "RequestExpired": failure.ClockSkew,
	"RequestInTheFuture": failure.ClockSkew,

	"TooManyUpdates":      failure.Throttled,
	"InternalServerError": failure.AWSUnavailable, "InternalFailure": failure.AWSUnavailable,
	"ServerException": failure.AWSUnavailable, "ServiceUnavailable": failure.AWSUnavailable,
	"ServiceUnavailableException": failure.AWSUnavailable,

	"ClusterNotFoundException": failure.ClusterNotFound,
	"TargetNotFoundException":  failure.InstanceInactive, "AttributeLimitExceededException": failure.Usage,
	"InvalidActivationId": failure.ActivationInvalid, "InvalidActivation": failure.ActivationInvalid,
	"InvalidInstanceId": failure.NodeUnknown,
	"InvalidParameters": failure.Usage, "ValidationException": failure.Usage, "InvalidParameterException": failure.Usage,
}

// called classifies the error of an SDK call. The message is "tried: cause"; AWS's own words are the evidence.
func called(ctx context.Context, err error, format string, args ...any) *failure.Error {
	tried := fmt.Sprintf(format, args...)
	coded := func(code failure.Code, cause string, args ...any) *failure.Error {
		return &failure.Error{
			Code: code, Message: tried + ": " + fmt.Sprintf(cause, args...), Evidence: words(err), Err: err,
		}
	}
	if ctx.Err() != nil { // the caller's end, not AWS's answer
		return &failure.Error{Code: failure.Interrupted, Message: tried + ": interrupted", Err: ctx.Err()}
	}
	var (
		api    smithy.APIError
		answer *awshttp.ResponseError
	)
	if errors.As(err, &api) {
		return refused(api, coded)
	}
	if errors.As(err, &answer) && answer.HTTPStatusCode() >= http.StatusInternalServerError {
		return coded(failure.AWSUnavailable, "AWS answered with status %d", answer.HTTPStatusCode())
	}
	return unreachable(err, coded)
}

// coder makes a failure of a code and a cause.
type coder func(code failure.Code, cause string, args ...any) *failure.Error

// withSource adds where the credentials came from, where that helps.
func withSource(f *failure.Error, source string) *failure.Error {
	switch f.Code {
	case failure.CredentialsInvalid, failure.CredentialsExpired:
		if source != "" {
			f.Evidence += " (credentials from " + source + ")"
		}
	}
	return f
}

// refused is for what AWS itself says.
func refused(api smithy.APIError, coded coder) *failure.Error {
	code, known := refusals[api.ErrorCode()]
	if _, throttle := retry.DefaultThrottleErrorCodes[api.ErrorCode()]; throttle {
		code, known = failure.Throttled, true
	}
	if code == failure.CredentialsInvalid && aboutTime(api.ErrorMessage()) {
		code = failure.ClockSkew
	}
	switch {
	case !known && api.ErrorFault() == smithy.FaultServer:
		return coded(failure.AWSUnavailable, "%s", api.ErrorCode())
	case !known:
		return coded(failure.Internal, "%s", api.ErrorCode())
	}
	switch code {
	case failure.AccessDenied:
		return denied(api, coded)
	case failure.CredentialsInvalid:
		f := coded(code, "AWS does not accept the credentials")
		f.Remedy = "use other keys or another --profile; aws sts get-caller-identity shows whether AWS knows them"
		return f
	case failure.CredentialsExpired:
		f := coded(code, "the credentials have expired")
		f.Remedy = "log in anew (aws sso login), or renew the keys in the environment or the profile"
		return f
	case failure.ClockSkew:
		return coded(code, "AWS refuses the signature because this machine's clock is wrong")
	case failure.Throttled:
		return coded(code, "AWS asks to slow down")
	case failure.AWSUnavailable:
		return coded(code, "AWS has a failure of its own")
	case failure.Usage:
		f := coded(code, "AWS does not accept a value: %s", api.ErrorMessage())
		f.Remedy = "correct the flag for the value that AWS names"
		return f
	}
	return coded(code, "%s", api.ErrorMessage())
}

// aboutTime tells a signature that is wrong because of the clock. Source: the services' own texts, as in "Signature
// expired: 20261122T100000Z is now earlier than …" and "Signature not yet current: …".
func aboutTime(message string) bool {
	return strings.Contains(message, "Signature expired") || strings.Contains(message, "Signature not yet current")
}

// denial is AWS's wording of a denied action.
var denial = regexp.MustCompile(`User: (\S+) is not authorized to perform: (\S+)(?: on resource: (\S+))?`)

func denied(api smithy.APIError, coded coder) *failure.Error {
	parts := denial.FindStringSubmatch(api.ErrorMessage())
	if parts == nil {
		return coded(failure.AccessDenied, "AWS denies access")
	}
	who, action, resource := parts[1], parts[2], parts[3]
	f := coded(failure.AccessDenied, "%s may not do %s", who, action)
	f.Remedy = "allow " + action + " to " + who
	if resource != "" && resource != "*" {
		f.Remedy += " on " + resource
	}
	if strings.Contains(api.ErrorMessage(), "explicit deny") {
		f.Remedy = "a policy denies " + action + " to " + who + " explicitly (the evidence says which kind): change that one"
	}
	return f
}

// unreachable is for calls without an answer.
func unreachable(err error, coded coder) *failure.Error {
	var (
		trust *tls.CertificateVerificationError
		dns   *net.DNSError
		op    *net.OpError
		asked *url.Error
		slow  net.Error
	)
	host := "AWS"
	if errors.As(err, &asked) {
		if u, parse := url.Parse(asked.URL); parse == nil && u.Host != "" {
			host = u.Host
		}
	}
	switch {
	case errors.As(err, &trust):
		f := coded(failure.TLSUntrusted, "the certificate of %s is not trusted: %s", host, trust.Err)
		f.Remedy = "add the certificate authority to the system's store, or name its file in AWS_CA_BUNDLE"
		return f
	case errors.As(err, &dns):
		return coded(failure.Network, "the name %s does not resolve: %s", dns.Name, dns.Err)
	case errors.As(err, &slow) && slow.Timeout():
		return coded(failure.Network, "%s does not answer", host)
	case errors.As(err, &op):
		return coded(failure.Network, "cannot connect to %s: %s", host, op.Err)
	case asked != nil:
		return coded(failure.Network, "%s: %s", host, asked.Err)
	}
	return coded(failure.Internal, "%s", err)
}

// words are AWS's own, with the operation; of an error without an answer, the SDK's.
func words(err error) string {
	var (
		operation *smithy.OperationError
		api       smithy.APIError
		answer    *awshttp.ResponseError
	)
	if !errors.As(err, &api) {
		return err.Error()
	}
	text := api.ErrorCode() + ": " + api.ErrorMessage()
	if errors.As(err, &operation) {
		text = strings.ToLower(operation.Service()) + ":" + operation.Operation() + ": " + text
	}
	if errors.As(err, &answer) && answer.ServiceRequestID() != "" {
		text += " (request " + answer.ServiceRequestID() + ")"
	}
	return text
}

// credentialsFailed is for a chain that gives no credentials.
func credentialsFailed(ctx context.Context, err error) error {
	var (
		session *ssocreds.InvalidTokenError
		api     smithy.APIError
	)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("fetch the AWS credentials: %w", ctx.Err())
	case errors.As(err, &session):
		return failure.New(failure.CredentialsExpired, "fetch the AWS credentials: the single sign-on session has expired").
			WithEvidence("%s", err).WithRemedy("aws sso login (with --profile NAME for a profile)")
	case errors.As(err, &api): // assuming a role, or asking the identity centre
		return called(ctx, err, "fetch the AWS credentials")
	}
	return noCredentials(err)
}

func noCredentials(err error) error {
	f := failure.New(failure.CredentialsInvalid, "no AWS credentials of an operator were found").
		WithEvidence("%s", err).
		WithRemedy("aws configure or aws sso login makes some; --profile, AWS_PROFILE or AWS_ACCESS_KEY_ID name them")
	f.Err = err
	return f
}
