package simagent

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

// identityConfig is runtimeconfig/identity_config.json: the only place that says when the shared keys expire.
type identityConfig struct {
	SchemaVersion          string
	InstanceId             string
	IdentityType           string
	ShareFile              string
	ShareProfile           string
	CredentialsExpiresAt   time.Time
	CredentialsRetrievedAt time.Time
	CredentialSource       string
}

// Serve is the service amazon-ssm-agent until ctx ends, which is SIGTERM. Unregistered it ends with 0 after a second.
func (s *SSM) Serve(ctx context.Context) int {
	log := seelog{place: &s.Place, files: true}.with("amazon-ssm-agent")
	s.chatter()
	config, err := s.config()
	if err != nil {
		log.error("app config could not be loaded: %v", err)
		return 1
	}
	log.info("amazon-ssm-agent - v%s", s.version())
	k, err := s.identity()
	if err != nil {
		log.error("Failed to load instance info from vault. %v", err)
	}
	if err != nil || !k.registered() || !config.takesOnPrem() {
		log.error("Agent failed to assume any identity")
		log.error("failed to find agent identity, retrying: failed to find agent identity")
		_ = s.pause(ctx, time.Second)
		return 0
	}
	log.info("Agent will take identity from OnPrem")
	s.refresh(ctx, k, config, log)
	_ = s.pause(context.WithoutCancel(ctx), 6*time.Second) // the real agent takes this long to stop
	log.info("Bye.")
	return 0
}

// refresh gets the role's keys, starts the worker with the first, and renews them at half of their life.
func (s *SSM) refresh(ctx context.Context, k registrationKey, config ssmConfig, log seelog) {
	log = log.with("CredentialRefresher")
	worker := make(chan struct{})
	started := false
	defer func() {
		if started {
			<-worker
		}
	}()
	for failures := 0; ; {
		retrieved, expires, err := s.cached(k, config)
		if err != nil {
			retrieved = s.now()
			expires, err = s.renew(ctx, k, config, log)
		}
		var wait time.Duration
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = s.complain(err, failures, log)
			failures++
			if s.pause(ctx, wait) != nil {
				return
			}
			continue
		}
		failures = 0
		if !started {
			log.info("Credentials ready")
			started = true
			go func() {
				defer close(worker)
				s.keepWorker(ctx, log.with("LongRunningWorkerContainer"))
			}()
		}
		wait = max(retrieved.Add(expires.Sub(retrieved)/2).Sub(s.now()), 0)
		log.info("Next credential rotation will be in %.2f minutes", wait.Minutes())
		if s.clock().Sleep(ctx, wait) != nil {
			return
		}
	}
}

// keepWorker starts the worker again, as the real core agent's watchdog does every minute, until ctx ends.
func (s *SSM) keepWorker(ctx context.Context, log seelog) {
	for {
		err := s.runWorker(ctx)
		if ctx.Err() != nil {
			return
		}
		log.error("Worker ssm-agent-worker is not running, starting worker process: %v", err)
		if s.pause(ctx, time.Minute) != nil {
			return
		}
	}
}

func (s *SSM) runWorker(ctx context.Context) error {
	if s.Worker != nil {
		return s.Worker(ctx)
	}
	return s.Ping(ctx)
}

var errNotCached = errors.New("no usable credentials of an earlier start")

// cached finds keys of an earlier start that live for more than another half of their life.
func (s *SSM) cached(k registrationKey, config ssmConfig) (retrieved, expires time.Time, err error) {
	var known identityConfig
	data, err := os.ReadFile(s.path(ssmIdentityFile))
	if err != nil {
		return retrieved, expires, err
	}
	if err := json.Unmarshal(data, &known); err != nil {
		return retrieved, expires, err
	}
	half := known.CredentialsRetrievedAt.Add(known.CredentialsExpiresAt.Sub(known.CredentialsRetrievedAt) / 2)
	_, readable := s.readKeys(known.ShareFile, config.profile())
	if known.InstanceId != k.InstanceID || known.ShareFile != s.shareFile() || !readable || !s.now().Before(half) ||
		known.ShareProfile != config.Profile.ShareProfile {
		return retrieved, expires, errNotCached
	}
	return known.CredentialsRetrievedAt, known.CredentialsExpiresAt, nil
}

// renew asks for a role token and writes it where the ECS agent looks.
func (s *SSM) renew(ctx context.Context, k registrationKey, config ssmConfig, log seelog) (time.Time, error) {
	print, err := s.fingerprint(ctx, log)
	if err != nil {
		return time.Time{}, err
	}
	var token struct {
		AccessKeyId, SecretAccessKey, SessionToken string
		TokenExpirationDate                        float64
		UpdateKeyPair                              *bool
	}
	err = s.ssmCall(ctx, config.endpoint(k.Region), "RequestManagedInstanceRoleToken",
		map[string]string{"Fingerprint": print}, &token, s.signRSA(k))
	if err != nil {
		return time.Time{}, err
	}
	if token.UpdateKeyPair == nil {
		log.error("credentials refresher panic: runtime error: invalid memory address or nil pointer dereference")
		return time.Time{}, errors.New("credentials refresher panic")
	}
	expires := time.UnixMilli(int64(token.TokenExpirationDate * 1000))
	known := identityConfig{
		SchemaVersion: "1.1", InstanceId: k.InstanceID, IdentityType: "OnPrem", ShareProfile: config.Profile.ShareProfile,
		CredentialsExpiresAt: expires.UTC(), CredentialsRetrievedAt: s.now().UTC(), CredentialSource: "SSM",
	}
	if config.sharesCredentials() {
		known.ShareFile = s.shareFile()
		keys := accessKeys{token.AccessKeyId, token.SecretAccessKey, token.SessionToken}
		if err := s.share(keys, config.profile(), log); err != nil {
			return time.Time{}, err
		}
	}
	data, err := json.Marshal(known)
	if err != nil {
		return time.Time{}, err
	}
	if err := os.MkdirAll(s.path(ssmRuntimeDir), 0o700); err != nil {
		return time.Time{}, err
	}
	return expires, s.writeFile(ssmIdentityFile, data, 0o600)
}

// complain logs a refusal as the real agent does and says how long it sleeps.
func (s *SSM) complain(err error, failures int, log seelog) time.Duration {
	log.error("Retrieve credentials produced error: %v", err)
	power := time.Second << min(failures, 16)
	wait := power + time.Duration(rand.Float64()*float64(power)/5)
	var refused *awsError
	if errors.As(err, &refused) {
		log.error("Status code %d returned from AWS API. RequestId: %s Message: %s", refused.Status, refused.RequestID,
			refused.Message)
		wait += 10*time.Second + rand.N(10*time.Second)
		if refused.Code == "AccessDeniedException" || refused.Code == "MachineFingerprintDoesNotMatch" {
			wait = 25*time.Minute + rand.N(5*time.Minute)
		}
	}
	wait = min(wait, 30*time.Minute)
	log.info("Sleeping for %v before retrying retrieve credentials", wait.Round(time.Second))
	return wait
}

// Ping is ssm-agent-worker: UpdateInstanceInformation at once and every five minutes until ctx ends. It reads the keys
// from the shared file. A first ping that is refused is the agent's hibernation.
func (s *SSM) Ping(ctx context.Context) error {
	log := seelog{place: &s.Place, files: true}.with("ssm-agent-worker")
	config, _ := s.config()
	k, err := s.identity()
	if err != nil {
		return err
	}
	ping := map[string]string{
		"AgentName": "amazon-ssm-agent", "AgentVersion": s.version(), "InstanceId": k.InstanceID, "PlatformType": "Linux",
	}
	first := s.ping(ctx, k, config, ping)
	for wait := 5 * time.Minute; first != nil; wait = min(2*wait, time.Hour) {
		log.error("Entering SSM Agent hibernate - %v", first)
		if err := s.pause(ctx, wait); err != nil {
			return err
		}
		first = s.ping(ctx, k, config, ping)
	}
	ping["AgentStatus"], ping["AvailabilityZone"], ping["AvailabilityZoneId"] = "Active", "", ""
	ping["ComputerName"] = strings.TrimSpace(s.readText("/etc/hostname"))
	ping["IPAddress"], _ = firstAddress()
	ping["PlatformName"], ping["PlatformVersion"] = s.osRelease("NAME"), s.osRelease("VERSION_ID")
	ping["SSMConnectionChannel"] = ""
	every := time.Duration(ssmPingMinutes) * time.Minute
	if m := config.Ssm.HealthFrequencyMinutes; m >= 5 && m <= 60 {
		every = time.Duration(m) * time.Minute
	}
	for {
		if err := s.ping(ctx, k, config, ping); err != nil && ctx.Err() == nil {
			log.error("[HealthCheck] error when calling AWS APIs. error details - %v", err)
		}
		if err := s.clock().Sleep(ctx, every); err != nil {
			return err
		}
	}
}

func (s *SSM) ping(ctx context.Context, k registrationKey, config ssmConfig, in map[string]string) error {
	keys, _ := s.readKeys(s.shareFile(), config.profile()) // without keys the service says what is wrong
	return s.ssmCall(ctx, config.endpoint(k.Region), "UpdateInstanceInformation", in, &struct{}{},
		s.signV4(keys, "ssm", k.Region))
}

// osRelease reads a value of /etc/os-release.
func (p *Place) osRelease(name string) string {
	for _, line := range strings.Split(p.readText("/etc/os-release"), "\n") {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return strings.Trim(value, `"'`)
		}
	}
	return ""
}
