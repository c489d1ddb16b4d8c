package simagent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"
)

const defaultSimilarity = 40 // percent

// fingerprint is Vault/Store/InstanceFingerprint. The uuid is random; the hardware only decides whether it may be used
// again.
type fingerprint struct {
	Fingerprint         string            `json:"fingerprint"`
	HardwareHash        map[string]string `json:"hardwareHash"`
	SimilarityThreshold int               `json:"similarityThreshold"`
}

// hardware has the keys of the real agent on Linux. Those that it takes from dmidecode are empty, as on a host without
// it.
func (s *SSM) hardware() map[string]string {
	ip, mac := firstAddress()
	return map[string]string{
		"machine-id": s.machineID(), "processor-hash": "", "memory-hash": "", "bios-hash": "", "system-hash": "",
		"hostname-info": strings.TrimSpace(s.readText("/etc/hostname")), "ipaddress-info": ip, "macaddr-info": mac,
		"disk-info": "",
	}
}

// machineID is the raw text with the newline at its end.
func (s *SSM) machineID() string {
	if id := s.readText("/etc/machine-id"); id != "" {
		return id
	}
	return s.readText("/var/lib/dbus/machine-id")
}

func (p *Place) readText(name string) string {
	data, _ := os.ReadFile(p.path(name)) // missing is empty
	return string(data)
}

func firstAddress() (ip, mac string) {
	interfaces, _ := net.Interfaces() // none is empty
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		if mac == "" {
			mac = i.HardwareAddr.String()
		}
		addresses, _ := i.Addrs()
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && ip == "" {
				ip = n.IP.String()
			}
		}
	}
	return ip, mac
}

// similar is the real agent's rule: another machine-id is another machine; the same with the same address is the same
// and nothing else is looked at; otherwise the share of equal keys decides.
func similar(saved, now map[string]string, threshold int) bool {
	switch {
	case threshold == -1:
		return true
	case saved["machine-id"] != now["machine-id"]:
		return false
	case saved["ipaddress-info"] == now["ipaddress-info"]:
		return true
	}
	equal := 0
	for name, v := range now {
		if saved[name] == v {
			equal++
		}
	}
	return equal*100 >= threshold*len(now)
}

// fingerprint returns the saved uuid, or a new one when there is none or the machine is another. The new one is saved,
// and the old one is lost, before anybody has asked the service what it thinks of it.
func (s *SSM) fingerprint(ctx context.Context, log seelog) (string, error) {
	var saved fingerprint
	// A file that is gone although the manifest has it counts as none (agent/managedInstances/fingerprint/fingerprint.go).
	if err := s.retrieve(vaultFingerprint, &saved); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	now := s.hardware()
	if saved.Fingerprint == "" {
		log.warn("Could not read InstanceFingerprint file: InstanceFingerprint does not exist")
		return s.saveFingerprint(now, defaultSimilarity)
	}
	if similar(saved.HardwareHash, now, saved.SimilarityThreshold) {
		return saved.Fingerprint, nil
	}
	for range 3 {
		if err := s.pause(ctx, 5*time.Second); err != nil {
			return "", err
		}
	}
	log.error("Cannot connect to AWS Systems Manager.  The hardware ID (%s) has changed from the registered value (%s). "+
		"Machine configuration has changed more than the allowed threshold.", now["machine-id"],
		saved.HardwareHash["machine-id"])
	log.info("Calculated hardware difference, regenerating fingerprint...")
	return s.saveFingerprint(now, saved.SimilarityThreshold)
}

func (s *SSM) saveFingerprint(hardware map[string]string, threshold int) (string, error) {
	id := newUUID()
	return id, s.store(vaultFingerprint, fingerprint{id, hardware, threshold})
}

// setThreshold is -similarityThreshold and -disableSimilarityCheck.
func (s *SSM) setThreshold(threshold int) error {
	var saved fingerprint
	if err := s.retrieve(vaultFingerprint, &saved); err != nil {
		return err
	}
	if saved.Fingerprint == "" {
		return fmt.Errorf("save called with empty fingerprint key")
	}
	saved.SimilarityThreshold = threshold
	return s.store(vaultFingerprint, saved)
}

func newUUID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // it never fails: crypto/rand ends the program instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
