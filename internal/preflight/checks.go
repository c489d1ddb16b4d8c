package preflight

import "slices"

const ecsAnywhereDocs = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-anywhere.html"

// All are the checks, in the order in which they are shown.
func All() []Check {
	return slices.Concat(
		machineChecks(),
		metadataChecks(),
		kernelChecks(),
		credentialChecks(),
		dockerChecks(),
		packageChecks(),
		diskChecks(),
		memoryChecks(),
		networkChecks(),
		existingChecks(),
		operatorChecks(),
		gpuChecks(),
	)
}
