package main

import (
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/gobwas/glob"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// collect fills in the files that the command left behind, where the inputs ask for them.
func (o *Outputs) collect(directory string, inputs Inputs) error {
	if inputs.AssetPaths != nil {
		assets, err := findFiles(directory, inputs.AssetPaths)
		if err != nil {
			return err
		}
		o.Assets = assets
	}
	if inputs.ArchivePaths != nil {
		files, err := findFiles(directory, inputs.ArchivePaths)
		if err != nil {
			return err
		}
		members := make(map[string]any, len(files))
		for name, file := range files {
			members[name] = file
		}
		o.Archive, err = resource.NewAssetArchive(members)
		if err != nil {
			return err
		}
	}
	return nil
}

// rule is one path pattern. `*` stops at a slash, `**` does not, and a leading `!` takes out again what an earlier rule put in.
type rule struct {
	pattern glob.Glob
	exclude bool
}

// findFiles returns the files, not the directories, that the patterns select, by their path relative to the directory.
func findFiles(directory string, patterns []string) (map[string]*resource.Asset, error) {
	rules := make([]rule, 0, len(patterns))
	for _, pattern := range patterns {
		text, exclude := strings.CutPrefix(pattern, "!")
		compiled, err := glob.Compile(text, '/')
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule{pattern: compiled, exclude: exclude})
	}

	found := map[string]*resource.Asset{}
	visit := func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		selected := false
		for _, rule := range rules {
			if rule.pattern.Match(name) {
				selected = !rule.exclude
			}
		}
		if !selected {
			return nil
		}
		found[name], err = resource.NewPathAsset(path.Join(directory, name))
		return err
	}
	return found, fs.WalkDir(os.DirFS(directory), ".", visit)
}
