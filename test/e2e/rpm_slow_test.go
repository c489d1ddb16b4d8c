//go:build slow

package e2e

func init() {
	rpmSystems["rocky9"], rpmSystems["leap15"] = "ecs.service", "ecs.service"
	thorough, otherVerbs["sles15"], otherVerbs["amzn2023"] = true, suseUnit, "ecs.service"
}
