//go:build slow

package e2e

// suseStore is SUSE's (see fedoraStore), after update-ca-certificates(8) of openSUSE Leap 15.6. It passes over a bundle that is newer than the folder
// beside it, as the real one does.
const suseStore = readsFrom + `cat >/usr/sbin/update-ca-certificates <<'END'
#!/bin/sh
for option; do case "$option" in -f|--fresh) fresh=1 ;; -v|--verbose) ;; *) echo "invalid option: $option" >&2; exit 1 ;; esac; done
` + extract + `pem-directory-hash /var/lib/ca-certificates/pem
if [ -z "$fresh" ] && [ /var/lib/ca-certificates/ca-bundle.pem -nt /var/lib/ca-certificates/pem ]; then exit 0; fi
exec ` + extract + `pem-bundle /var/lib/ca-certificates/ca-bundle.pem
END
chmod 755 /usr/sbin/update-ca-certificates; ln -s /var/lib/ca-certificates/ca-bundle.pem /etc/ssl/ca-bundle.pem
ln -s /var/lib/ca-certificates/pem /etc/ssl/certs; update-ca-certificates`

func init() {
	rpmSystems["rocky9"], rpmSystems["leap15"] = "ecs.service", "ecs.service"
	trustStores = append(trustStores, trustStore{
		"sles15", suseUnit, suseStore, "/var/lib/ca-certificates/ca-bundle.pem", "/etc/pki/trust/anchors", "/usr/share/pki/trust",
	})
	thorough, otherVerbs["sles15"], otherVerbs["amzn2023"] = true, suseUnit, "ecs.service"
}
