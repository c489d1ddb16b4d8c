package platform

// Date is the day of the table: what AWS changed since, it does not know.
const Date = "2026-11-22"

// What the rows' facts come from.
const (
	guide  = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-anywhere.html (copies of 2026)"
	wasIn  = "history of ecs-anywhere.md in awsdocs/amazon-ecs-developer-guide, 2021-05-27 to 2023-05"
	notIn  = "not in " + guide + " nor in its history"
	script = "ecs-anywhere-install.sh of 2026-04-14"
	rhel9  = "https://github.com/aws/containers-roadmap/issues/2375, closed 2026-01-26"
)

// AWS's dates. Between May 2023, when the public history of the page ends, and the copies of 2026 there is no telling
// when.
const (
	start   = "2021-05-27" // general availability
	by2023  = "between 2021-05 and 2023-05"
	after23 = "between 2023-05 and 2026"
)

const (
	ecsUnit  = "ecs.service"
	suseUnit = "amazon-ecs.service" // packaging/suse/amazon-ecs-init.spec of amazon-ecs-agent, 2026-06-30
)

const (
	noteOldCgroup = "runs on control groups v2 with agents from 1.61.0 (2022-04-05) on; " +
		"older ones need systemd.unified_cgroup_hierarchy=0"
	noteRHEL    = "Docker is not in RHEL's open repositories: install it first, then register with --docker-source none"
	noteRebuild = "AWS's script does not know it and would install podman-docker; Docker's repository for CentOS fits"
	notePi      = "Raspberry Pi OS starts without the memory control group: " +
		"add cgroup_enable=memory to the kernel's command line"
	noteAmazon = "use the generic amazon-ecs-init, not Amazon Linux's own ecs-init, whose unit reads only /etc/ecs/ecs.config"
)

// What the tests really run: see test/e2e. Everything else of the table is held to rules by unit tests only.
const ()

// extras is the repository of Amazon Linux 2 that amazon-linux-extras switches on for Docker. Source:
// /etc/yum.repos.d/amzn2-extras.repo of Amazon Linux 2.
const extras = "amzn2extra-docker"

// Table is what is known of operating systems, each system's versions from old to new. The slice is the caller's.
func Table() []Row {
	both := []string{SourceDocker, SourceDistro}
	docker, distro := []string{SourceDocker}, []string{SourceDistro}
	listed := func(since string) Position { return Position{State: Listed, Since: since} }
	was := func(since, until string) Position { return Position{State: WasListed, Since: since, Until: until} }
	never := Position{State: Never}

	debian := func(version string, aws Position, source, notes string) Row {
		return Row{System: "Debian", ID: "debian", Versions: []string{version}, Family: Deb, Manager: "apt", AWS: aws,
			Docker: both, DockerPackage: "docker.io", ECSUnit: ecsUnit, Built: true, Notes: notes, Source: source}
	}
	stretch := debian("9", was(start, after23), wasIn, "Debian 9 has no docker.io package")
	stretch.Docker, stretch.DockerPackage = docker, ""
	ubuntu := func(version string, aws Position, source, notes string) Row {
		return Row{System: "Ubuntu", ID: "ubuntu", Versions: []string{version}, Family: Deb, Manager: "apt", AWS: aws,
			Docker: both, DockerPackage: "docker.io", ECSUnit: ecsUnit, Built: true, Notes: notes, Source: source}
	}
	amazon := func(version, manager string, aws Position, source, notes string) Row {
		return Row{System: "Amazon Linux", ID: "amzn", Versions: []string{version}, Family: RPM, Manager: manager, AWS: aws,
			Docker: distro, DockerPackage: "docker", ECSUnit: ecsUnit, Built: true, Notes: notes, Source: source}
	}
	centos := func(version, manager string, aws Position, source, notes string) Row {
		return Row{System: "CentOS Linux", ID: "centos", NameNot: "Stream", Versions: []string{version}, Family: RPM,
			Manager: manager, AWS: aws, Docker: docker, DockerFolder: "centos", ECSUnit: ecsUnit, Built: true, Notes: notes, Source: source}
	}
	stream := func(version string, aws Position, source, notes string) Row {
		return Row{System: "CentOS Stream", ID: "centos", NameHas: "Stream", Versions: []string{version}, Family: RPM,
			Manager: "dnf", AWS: aws, Docker: docker, DockerFolder: "centos", ECSUnit: ecsUnit, Built: true, Notes: notes, Source: source}
	}
	rhel := func(version, manager string, aws Position, source string) Row {
		return Row{System: "Red Hat Enterprise Linux", ID: "rhel", Versions: []string{version}, Family: RPM, Manager: manager,
			AWS: aws, ECSUnit: ecsUnit, Built: true, Notes: noteRHEL, Source: source}
	}
	rebuild := func(system, id, manager string, versions ...string) Row {
		return Row{System: system, ID: id, Versions: versions, Family: RPM, Manager: manager, AWS: never, Docker: docker,
			DockerFolder: "centos", ECSUnit: ecsUnit, Built: true, Notes: noteRebuild, Source: notIn + "; " + script}
	}
	fedora := func(manager string, aws Position, source, notes string, versions ...string) Row {
		return Row{System: "Fedora", ID: "fedora", Versions: versions, Family: RPM, Manager: manager, AWS: aws, Docker: both,
			DockerPackage: "moby-engine", ECSUnit: ecsUnit, Built: true, Notes: notes, Source: source}
	}
	suse := func(system, id string, aws Position, source string, versions ...string) Row {
		return Row{System: system, ID: id, Versions: versions, Family: RPM, Manager: "zypper", AWS: aws, Docker: distro,
			DockerPackage: "docker", ECSUnit: suseUnit, Built: true, Source: source}
	}
	windows := func(version string, aws Position, notes string) Row {
		return Row{System: "Windows Server", ID: "windows", Versions: []string{version}, Family: Windows, AWS: aws,
			ECSUnit: "AmazonECS", Notes: notes, Source: guide + "; ecs-anywhere-install.ps1 signed 2023-11-07"}
	}

	amazon2 := amazon("2", "yum", listed("early 2022"), guide, noteAmazon)
	amazon2.DockerEnable = extras
	rocky := func(versions ...string) Row { return rebuild("Rocky Linux", "rocky", "dnf", versions...) }

	return []Row{
		stretch,
		debian("10", listed(start), guide, ""),
		debian("11", listed(by2023), guide, noteOldCgroup),
		debian("12", listed(after23), guide, noteOldCgroup),
		debian("13", never, notIn, noteOldCgroup+"; AWS's script fails here, for it needs apt-key"),
		{System: "Raspberry Pi OS, 64-bit", ID: "debian", Marker: "/etc/rpi-issue", Versions: []string{"11", "12", "13"},
			Family: Deb, Manager: "apt", AWS: never, Docker: both, DockerPackage: "docker.io", ECSUnit: ecsUnit, Built: true,
			Notes: notePi, Source: notIn + "; amazon-ecs-agent#2917"},
		{System: "Raspberry Pi OS, 32-bit", ID: "raspbian", Family: Deb, Manager: "apt", AWS: never, ECSUnit: ecsUnit,
			Broken: true, Notes: "its packages are 32-bit, and the ECS agent's are not: use the 64-bit system", Source: notIn},

		ubuntu("18.04", listed(start), guide, ""),
		ubuntu("20.04", listed(start), guide, ""),
		ubuntu("22.04", listed(by2023), guide, noteOldCgroup+"; agents before 1.80.0 are stopped by AppArmor"),
		ubuntu("24.04", listed(after23), guide, noteOldCgroup),
		ubuntu("26.04", never, notIn, noteOldCgroup),

		amazon2,
		amazon("2023", "dnf", listed(after23), guide, noteAmazon),

		centos("7", "yum", was(start, after23), wasIn, "without updates since 2024-06-30"),
		centos("8", "dnf", was(start, "2022-03-25"), wasIn, "without updates since 2021-12-31"),
		stream("8", was("2022-04-14", after23), wasIn, "without updates since 2024-05-31"),
		stream("9", listed(after23), guide, ""),
		stream("10", never, notIn, ""),

		rhel("7", "yum", listed(start), guide),
		rhel("8", "dnf", listed("2022-04-14"), guide),
		rhel("9", "dnf", listed("2026-01"), rhel9),
		rhel("10", "dnf", never, "https://github.com/aws/containers-roadmap/issues/2777, open"),
		rocky("8"),
		rocky("9"),
		rocky("10"),
		rebuild("AlmaLinux", "almalinux", "dnf", "8", "9", "10"),
		rebuild("Oracle Linux", "ol", "yum", "7"),
		rebuild("Oracle Linux", "ol", "dnf", "8", "9", "10"),

		fedora("dnf", listed(start), guide, noteOldCgroup, "32", "33"),
		fedora("dnf", never, notIn, noteOldCgroup, "34", "35", "36", "37", "38", "39"),
		fedora("dnf", listed(after23), guide, "", "40"),
		fedora("dnf5", never, notIn, "AWS's script fails here: dnf5 has another config-manager", "41", "42", "43", "44", "45"),

		suse("SUSE Linux Enterprise Server", "sles", listed(start), guide, "15"),
		suse("openSUSE Leap", "opensuse-leap", never, notIn, "15"),
		suse("openSUSE Leap", "opensuse-leap", never, notIn, "16"),
		suse("openSUSE Tumbleweed", "opensuse-tumbleweed", listed(start), guide),

		{System: "Bottlerocket", ID: "bottlerocket", Family: None, AWS: was("2022-07-15", "2022-12-17"), Broken: true,
			Notes: "a stock image cannot become an ECS external instance; its managed node can be registered " +
				"through the control container's user data", Source: wasIn},

		windows("2016", listed("2022-03-04"), "ECS Exec does not work on it"),
		windows("2019", listed("2022-03-04"), ""),
		windows("20H2", listed("2022-03-04"), "without updates since 2022-08; AWS's newer script refuses it"),
		windows("2022", listed("2022-03-04"), ""),
		windows("2025", never, "the agent knows it since 1.93.0"),
	}
}
