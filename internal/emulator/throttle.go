package emulator

import "time"

// rate is one of ECS's buckets: how many calls it takes at once, and how many a second it gets back.
type rate struct {
	burst, sustained float64
	operations       []string
}

// rates are ECS's buckets, for an account in a Region. DiscoverPollEndpoint is in none of them, nor is anything of Systems
// Manager's: AWS publishes no numbers. Source: ECS API reference, "Request throttling for the Amazon ECS API", read
// 2026-11-25.
func rates() []rate {
	return []rate{
		{20, 1, []string{"CreateCluster"}},
		{50, 20, []string{"DescribeClusters", "ListClusters"}},
		{20, 1, []string{"DeregisterTaskDefinition", "RegisterTaskDefinition"}},
		{50, 20, []string{"DescribeTaskDefinition", "ListTaskDefinitions"}},
		{20, 10, []string{"TagResource"}},
		{100, 40, []string{
			"DeregisterContainerInstance", "PutAttributes", "RunTask", "StartTask", "StopTask", "UpdateContainerInstancesState",
		}},
		{100, 20, []string{"DescribeContainerInstances", "DescribeTasks", "ListContainerInstances", "ListTasks"}},
		{200, 120, []string{
			"RegisterContainerInstance", "SubmitAttachmentStateChanges", "SubmitContainerStateChange", "SubmitTaskStateChange",
		}},
		{50, 5, []string{"CreateService", "DeleteService", "UpdateService"}},
		{100, 20, []string{"DescribeServices", "ListServices"}},
	}
}

// bucket is a token bucket.
type bucket struct {
	rate
	tokens float64
	at     time.Time // of tokens
}

// take reports whether there is a token, and takes it.
func (b *bucket) take(now time.Time) bool {
	if since := now.Sub(b.at).Seconds(); since > 0 {
		b.tokens, b.at = min(b.burst, b.tokens+since*b.sustained), now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// throttle refuses a call that comes too soon.
func (e *Emulator) throttle(service, name string) *apiError {
	if !e.opts.Throttling || service != "ecs" {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.buckets == nil {
		e.buckets = map[string]*bucket{}
		for _, r := range rates() {
			b := &bucket{rate: r, tokens: r.burst, at: e.opts.Now()}
			for _, operation := range r.operations {
				e.buckets[operation] = b
			}
		}
	}
	if b := e.buckets[name]; b != nil && !b.take(e.opts.Now()) {
		return newError("ThrottlingException", "Rate exceeded")
	}
	return nil
}
