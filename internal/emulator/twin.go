package emulator

// AddTwin makes another container instance of a managed node, whose agent counts as connected, and returns its ARN: a copy
// of a machine that runs somewhere.
func (e *Emulator) AddTwin(clusterName, node string) string {
	e.AddCluster(clusterName)
	e.mu.Lock()
	defer e.mu.Unlock()
	i, _ := e.enroll(e.clusters[clusterName], "", node) // a new one is never refused
	i.elsewhere = true
	return i.ARN
}
