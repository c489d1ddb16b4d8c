module github.com/anywhere-ecs/anywhere/test/e2e

go 1.26.0

require golang.org/x/sys v0.49.0

replace github.com/anywhere-ecs/anywhere => ../..
