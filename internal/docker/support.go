package docker

import (
	"context"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Support is what Docker says of itself and of one container, for people who help: whole answers, by path. The container's
// environment and arguments are left out, for they hold secrets. What Docker does not answer is in missing, with the reason.
func Support(ctx context.Context, r host.Reader, container string) (answers map[string]any, missing map[string]string) {
	client := newClient(r)
	answers, missing = map[string]any{}, map[string]string{}
	for _, path := range []string{"/version", "/info", "/containers/" + container + "/json"} {
		var answer map[string]any
		if err := client.get(ctx, path, &answer); err != nil {
			missing[path] = whyDown(err)
			continue
		}
		if config, ok := answer["Config"].(map[string]any); ok {
			delete(config, "Env")
			delete(config, "Cmd")
			delete(config, "Entrypoint")
		}
		delete(answer, "Args")
		answers[path] = answer
	}
	return answers, missing
}
