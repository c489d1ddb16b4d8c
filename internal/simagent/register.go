package simagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Lengths below which the agent does not even ask (ssm-agent 3.3, service model).
const (
	minCode      = 20
	minID        = 36
	minPublicKey = 392
)

// register does the real agent's steps in its order. The vault is emptied before SSM is called: whatever fails after
// that, the old registration is gone.
func (s *SSM) register(ctx context.Context, f ssmFlags, config ssmConfig, log seelog) (string, error) {
	k, public, err := s.newKey()
	if err != nil {
		return "", err
	}
	if err := s.store(vaultRegistration, k); err != nil {
		return "", fmt.Errorf("Unable to save registration information. %w\nTry running as sudo/administrator.", err)
	}
	print, err := s.fingerprint(ctx, log)
	if err != nil {
		return "", err
	}
	if f.disableSimilarity {
		if err := s.setThreshold(-1); err != nil {
			return "", err
		}
	}
	id, err := s.activate(ctx, f, config, print, public)
	if err != nil {
		return "", fmt.Errorf("error registering the instance with AWS SSM. %w", err)
	}
	k.InstanceID, k.Region = id, f.region
	if err := s.store(vaultRegistration, k); err != nil {
		return "", fmt.Errorf("error persisting the instance registration information. %w", err)
	}
	side, err := json.Marshal(struct{ ManagedInstanceID, Region string }{id, f.region})
	if err != nil {
		return "", err
	}
	return id, s.writeFile(ssmSideFile, side, 0o600)
}

// activate is RegisterManagedInstance: anonymous, not idempotent.
func (s *SSM) activate(ctx context.Context, f ssmFlags, config ssmConfig, print, public string) (string, error) {
	for _, field := range []struct {
		name, value string
		least       int
	}{{"ActivationCode", f.code, minCode}, {"ActivationId", f.id, minID}, {"PublicKey", public, minPublicKey}} {
		if len(field.value) < field.least {
			return "", fmt.Errorf("InvalidParameter: 1 validation error(s) found.\n- minimum field size of %d, "+
				"RegisterManagedInstanceInput.%s.\n", field.least, field.name)
		}
	}
	if !validRegion(f.region) {
		seelog{place: &s.Place, files: true}.error("Unable to determine endpoint because region %s has invalid characters",
			f.region)
		return "", errors.New("MissingEndpoint: 'Endpoint' configuration is required for this service")
	}
	var out struct{ InstanceId string }
	err := s.ssmCall(ctx, config.endpoint(f.region), "RegisterManagedInstance", map[string]string{
		"ActivationCode": f.code, "ActivationId": f.id, "Fingerprint": print, "PublicKey": public, "PublicKeyType": "Rsa",
	}, &out, nil)
	if err == nil && out.InstanceId == "" {
		panic("runtime error: invalid memory address or nil pointer dereference") // as the real agent does
	}
	return out.InstanceId, err
}
