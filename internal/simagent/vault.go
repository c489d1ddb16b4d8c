package simagent

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// registrationKey is Vault/Store/RegistrationKey: the node's identity. A host is registered only when its id, Region
// and private key are all there.
type registrationKey struct {
	InstanceID            string `json:"instanceID"`
	Region                string `json:"region"`
	InstanceType          string `json:"instanceType"`
	AvailabilityZone      string `json:"availabilityZone"`
	PrivateKey            string `json:"privateKey"`
	PublicKey             string `json:"publicKey"`
	PrivateKeyType        string `json:"privateKeyType"`
	PrivateKeyCreatedDate string `json:"privateKeyCreatedDate"`
}

func (k registrationKey) registered() bool {
	return k.InstanceID != "" && k.Region != "" && k.PrivateKey != ""
}

// signer is the private key, PKCS#1 DER in base64.
func (k registrationKey) signer() (*rsa.PrivateKey, error) {
	der, err := base64.StdEncoding.DecodeString(k.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("reading the private key: %w", err)
	}
	return x509.ParsePKCS1PrivateKey(der)
}

// newKey makes an RSA-2048 pair: the private half as the vault has it, the public half (PKIX) as SSM wants it.
func (s *SSM) newKey() (registrationKey, string, error) {
	pair, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return registrationKey{}, "", err
	}
	public, err := x509.MarshalPKIXPublicKey(&pair.PublicKey)
	if err != nil {
		return registrationKey{}, "", err
	}
	return registrationKey{
		PrivateKey: base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(pair)), PrivateKeyType: "Rsa",
		PrivateKeyCreatedDate: s.now().UTC().Round(0).String(),
	}, base64.StdEncoding.EncodeToString(public), nil
}

// Names in the vault.
const (
	vaultRegistration = "RegistrationKey"
	vaultFingerprint  = "InstanceFingerprint"
)

// vaultDirMode is 0600, as the real agent has it: only root, who needs no x bit, can enter. Anyone else who runs the
// simulation on a throw-away root needs that bit.
func vaultDirMode() os.FileMode {
	if os.Geteuid() == 0 {
		return 0o600
	}
	return 0o700
}

// store writes a value and its entry in the manifest: without that entry the file is invisible.
func (s *SSM) store(name string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.path(ssmDataDir), 0o700); err != nil {
		return err
	}
	for _, dir := range []string{ssmVault, ssmVault + "/Store"} {
		if err := os.Mkdir(s.path(dir), vaultDirMode()); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	file := ssmVault + "/Store/" + name
	if err := s.writeFile(file, data, 0o600); err != nil {
		return err
	}
	manifest, err := s.manifest()
	if err != nil {
		return err
	}
	manifest[name] = file
	if data, err = json.Marshal(manifest); err != nil {
		return err
	}
	return s.writeFile(ssmVault+"/Manifest", data, 0o600)
}

func (s *SSM) manifest() (map[string]string, error) {
	manifest := map[string]string{}
	data, err := os.ReadFile(s.path(ssmVault + "/Manifest"))
	if errors.Is(err, fs.ErrNotExist) {
		return manifest, nil
	}
	if err != nil {
		return nil, err
	}
	return manifest, json.Unmarshal(data, &manifest)
}

// retrieve reads a value of the vault; one that is not there leaves into as it was.
func (s *SSM) retrieve(name string, into any) error {
	manifest, err := s.manifest()
	if err != nil {
		return fmt.Errorf("failed to load vault manifest: %w", err)
	}
	file, ok := manifest[name]
	if !ok {
		return nil
	}
	data, err := os.ReadFile(s.path(file))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

func (s *SSM) identity() (registrationKey, error) {
	var k registrationKey
	err := s.retrieve(vaultRegistration, &k)
	return k, err
}
