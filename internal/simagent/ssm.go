package simagent

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func (s *SSM) version() string {
	if s.Version == "" {
		return DefaultSSMVersion
	}
	return s.Version
}

// ssmFlags are the flags of amazon-ssm-agent that are not Windows' or Greengrass' own.
type ssmFlags struct {
	register, clear, yes, version, disableSimilarity, fingerprint bool
	code, id, region                                              string
	threshold                                                     int
}

// Main is the command line of amazon-ssm-agent: without arguments the service, until ctx ends. It returns the exit
// status: 0, 1 for a failure, 2 for a flag that there is not.
func (s *SSM) Main(ctx context.Context, args []string) int {
	var f ssmFlags
	set := flag.NewFlagSet("amazon-ssm-agent", flag.ContinueOnError)
	set.SetOutput(s.stderr())
	set.BoolVar(&f.register, "register", false, "register managed instance")
	set.StringVar(&f.code, "code", "", "activation code for managed instance")
	set.StringVar(&f.id, "id", "", "activation ID for managed instance")
	set.StringVar(&f.region, "region", "", "ssm region for managed instance")
	set.BoolVar(&f.disableSimilarity, "disableSimilarityCheck", false, "disable similarity check")
	set.BoolVar(&f.clear, "clear", false, "clears the previously saved SSM registration")
	set.BoolVar(&f.yes, "y", false, "answer yes for all questions")
	set.BoolVar(&f.fingerprint, "fingerprint", false, "update the machine fingerprint similarity threshold")
	set.IntVar(&f.threshold, "similarityThreshold", defaultSimilarity, "machine fingerprint similarity threshold")
	set.BoolVar(&f.version, "version", false, "current version of SSM agent")
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	log := seelog{place: &s.Place, files: true}
	switch {
	case len(args) == 0:
		return s.Serve(ctx)
	case f.version && set.NFlag() == 1:
		fmt.Fprintf(s.stdout(), "SSM Agent version: %s\n", s.version())
		return 0
	case f.register:
		return s.registerCommand(ctx, f, log, set.Usage)
	case f.fingerprint && f.threshold != 0 && f.threshold >= -1 && f.threshold <= 100:
		if err := s.setThreshold(f.threshold); err != nil {
			log.error("Error setting the SSM Agent similarity threshold. %v", err)
			return 1
		}
		return 0
	}
	set.Usage()
	return 1
}

func (s *SSM) registerCommand(ctx context.Context, f ssmFlags, log seelog, usage func()) int {
	complete := f.code != "" && f.id != "" && f.region != ""
	if !complete && f.clear {
		return s.clear(log)
	}
	if !complete {
		usage()
		return 1
	}
	s.chatter()
	config, _ := s.config() // with a malformed file the agent registers by its defaults
	if k, _ := s.identity(); k.InstanceID != "" && !f.yes {
		if err := s.confirm(k.InstanceID); errors.Is(err, errCanceled) {
			log.info("Registration canceled by user")
			return 1
		} else if err != nil {
			log.error("Registration failed due to %v", err)
			return 1
		}
	}
	id, err := s.register(ctx, f, config, log)
	if err != nil {
		log.error("Registration failed due to %v", err)
		return 1
	}
	log.info("Successfully registered the instance with AWS SSM using Managed instance-id: %s", id)
	return 0
}

// chatter is what the real agent prints before its logger works.
func (s *SSM) chatter() {
	if _, err := os.Stat(s.path("/etc/amazon/ssm/seelog.xml")); err != nil {
		fmt.Fprintln(s.stdout(), "Error occurred fetching the seelog config file path: "+
			"open /etc/amazon/ssm/seelog.xml: no such file or directory")
	}
	fmt.Fprintln(s.stdout(), "Initializing new seelog logger")
	fmt.Fprintln(s.stdout(), "New Seelog Logger Creation Complete")
}

var errCanceled = errors.New("canceled by user")

// confirm asks whether a registration is to be replaced; nil means yes.
func (s *SSM) confirm(id string) error {
	fmt.Fprintf(s.stdout(), "\nInstance already registered with id %s. Would you like to override existing with the new "+
		"registration information? [Yes/No]: ", id)
	if s.Stdin == nil {
		return io.EOF
	}
	line, err := bufio.NewReader(s.Stdin).ReadString('\n')
	if err != nil && line == "" {
		return io.EOF
	}
	switch answer := strings.ToLower(strings.TrimSpace(line)); {
	case strings.HasPrefix(answer, "y"):
		return nil
	case strings.HasPrefix(answer, "n"):
		return errCanceled
	}
	return errors.New("Invalid response received.")
}

// clear empties the vault's two entries. The side file stays, and tells of a registration that is gone.
func (s *SSM) clear(log seelog) int {
	if err := s.store(vaultRegistration, registrationKey{}); err != nil {
		log.error("Failed to clear the registration: %v", err)
		return 1
	}
	if err := s.store(vaultFingerprint, fingerprint{}); err != nil {
		log.error("Failed to clear the fingerprint: %v", err)
		return 1
	}
	log.info("Registration information has been removed from the instance.")
	return 0
}
