package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// configFile is a configuration file as it was read: for each command the values of its flags. At the top of the file
// stand the flags of every command; below a command's name stand those of that command alone, which are the stronger.
//
//	region: eu-central-1
//	register:
//	  cluster: shop
type configFile struct {
	path     string
	sections map[string]map[string]entry // by command path without the program's name; "" is the top
}

// entry is one value of the file. A list has several.
type entry struct {
	values []string
	at     string // FILE:LINE
}

// find is the value for a flag of cmd: the command's own section's, else its parents', else the top's.
func (c configFile) find(cmd *cobra.Command, flag string) (entry, bool) {
	for ; cmd != nil; cmd = cmd.Parent() {
		if e, ok := c.sections[sectionOf(cmd)][flag]; ok {
			return e, true
		}
	}
	return entry{}, false
}

// sectionOf is a command's path without the program's name.
func sectionOf(cmd *cobra.Command) string {
	_, section, _ := strings.Cut(cmd.CommandPath(), " ")
	return section
}

// readConfig reads the file that --config or its variable names, else the default one if it exists.
func (a *app) readConfig(root, cmd *cobra.Command) (configFile, error) {
	flag := cmd.Flags().Lookup("config")
	path, named := defaultConfig, "" // named is what names the file
	if _, value := a.variable(flag.Annotations[noteEnv][0]); value != "" {
		path, named = value, "the environment variable "+flag.Annotations[noteEnv][0]
	}
	if flag.Changed {
		path, named = a.global.config, "--config"
	}
	if path == "" {
		return configFile{}, refuseEmpty(cmd)
	}
	data, err := a.env.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && named == "":
		return configFile{}, nil
	case err != nil && named == "":
		return configFile{}, failure.Wrap(failure.InvalidConfig, err, "read the configuration file %s", path).
			WithRemedy("let this user read it, or name another file with --config")
	case err != nil:
		return configFile{}, failure.Wrap(failure.InvalidConfig, err, "%s: read the configuration file %s", named, path).
			WithRemedy("name a file that is there and can be read, or leave it out")
	}
	return parseConfig(path, data, root)
}

// parseConfig reads a file strictly, against the tree of commands: what is not a flag of some command is an error.
func parseConfig(path string, data []byte, root *cobra.Command) (configFile, error) {
	file := configFile{path: path, sections: map[string]map[string]entry{}}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		// The reader's message has the line, and may quote the file: only its first line is told.
		text, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "yaml: "), "\n")
		return file, failure.New(failure.InvalidConfig, "%s: not valid YAML: %s", path, text)
	}
	if len(doc.Content) == 0 { // empty, or comments only
		return file, nil
	}
	return file, file.section(root, doc.Content[0])
}

// section reads the mapping of one command.
func (c configFile) section(cmd *cobra.Command, node *yaml.Node) error {
	where := func(n *yaml.Node) string { return fmt.Sprintf("%s:%d", c.path, n.Line) }
	if node.Kind != yaml.MappingNode {
		if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" { // "register:" with nothing below it
			return nil
		}
		return failure.New(failure.InvalidConfig, "%s: expected names with values, like region: eu-central-1", where(node))
	}
	values := map[string]entry{}
	c.sections[sectionOf(cmd)] = values
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if sub := subcommand(cmd, key.Value); sub != nil {
			if err := c.section(sub, value); err != nil {
				return err
			}
			continue
		}
		flag := configurable(cmd, key.Value)
		if flag == nil {
			return c.unknown(cmd, key)
		}
		if why := flag.Annotations[noteNoConfig]; why != nil {
			return failure.New(failure.InvalidConfig, "%s: %s cannot be set in the configuration file: %s",
				where(key), key.Value, why[0])
		}
		if _, twice := values[key.Value]; twice {
			return failure.New(failure.InvalidConfig, "%s: %s stands there twice", where(key), key.Value)
		}
		read, err := scalars(value)
		if err != nil {
			return failure.New(failure.InvalidConfig, "%s: %s: %s", where(value), key.Value, err)
		}
		values[key.Value] = entry{read, where(key)}
	}
	return nil
}

func (c configFile) unknown(cmd *cobra.Command, key *yaml.Node) error {
	var known []string
	visitConfigurable(cmd, func(f *pflag.Flag) {
		if f.Annotations[noteNoConfig] == nil {
			known = append(known, f.Name)
		}
	})
	for _, sub := range cmd.Commands() {
		known = append(known, sub.Name())
	}
	message := fmt.Sprintf("%s:%d: unknown key %q", c.path, key.Line, key.Value)
	if near := nearest(key.Value, known); near != "" {
		message += fmt.Sprintf(" (did you mean %s?)", near)
	}
	return failure.New(failure.InvalidConfig, "%s", message)
}

// visitConfigurable visits what may stand in a command's section: all its flags, the root's only at the top.
func visitConfigurable(cmd *cobra.Command, visit func(*pflag.Flag)) {
	each := func(f *pflag.Flag) {
		if f.Name != "help" && f.Name != "version" {
			visit(f)
		}
	}
	cmd.InheritedFlags().VisitAll(each)
	cmd.PersistentFlags().VisitAll(each)
	cmd.LocalNonPersistentFlags().VisitAll(each)
}

func configurable(cmd *cobra.Command, name string) (found *pflag.Flag) {
	visitConfigurable(cmd, func(f *pflag.Flag) {
		if f.Name == name {
			found = f
		}
	})
	return found
}

func subcommand(cmd *cobra.Command, name string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == name {
			return sub
		}
	}
	return nil
}

// scalars reads one value, a list of values, or for KEY=VALUE flags a mapping.
func scalars(node *yaml.Node) ([]string, error) {
	switch node.Kind {
	case yaml.ScalarNode:
		if node.ShortTag() == "!!null" {
			return nil, errors.New("the value is missing")
		}
		return []string{node.Value}, nil
	case yaml.SequenceNode, yaml.MappingNode:
		var all []string
		for i, item := range node.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, errors.New("expected plain values")
			}
			if node.Kind == yaml.MappingNode && i%2 == 1 {
				all[len(all)-1] += "=" + item.Value
				continue
			}
			all = append(all, item.Value)
		}
		return all, nil
	}
	return nil, errors.New("expected a value or a list of values")
}
