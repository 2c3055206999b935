// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	// aptLists changes its time with every `apt-get update`.
	aptLists     = "/var/lib/apt/lists"
	resolvedName = ".resolved.json"
)

// resolution remembers what a package resolved to. Asking apt takes seconds on
// a small machine, and the answer stays the same until its lists change.
type resolution struct {
	Asked   string    `json:"asked"`
	Lists   time.Time `json:"lists"`
	Name    string    `json:"name"`
	Version string    `json:"version"`
	SHA256  string    `json:"sha256"`
}

// resolveOnce is resolve, remembered in out. The caller holds the lock.
func resolveOnce(ctx context.Context, out, name string) (debPackage, error) {
	lists, err := os.Stat(aptLists)
	if err != nil {
		return resolve(ctx, name)
	}
	file := filepath.Join(out, resolvedName)
	if data, err := os.ReadFile(file); err == nil {
		var r resolution
		if json.Unmarshal(data, &r) == nil && r.Asked == name && r.Lists.Equal(lists.ModTime()) {
			return debPackage{name: r.Name, version: r.Version, sha256: r.SHA256}, nil
		}
	}
	deb, err := resolve(ctx, name)
	if err != nil {
		return debPackage{}, err
	}
	data, err := json.Marshal(resolution{
		Asked: name, Lists: lists.ModTime(), Name: deb.name, Version: deb.version, SHA256: deb.sha256,
	})
	if err != nil {
		return debPackage{}, fmt.Errorf("encode %s: %w", resolvedName, err)
	}
	// A torn write is unreadable JSON, and then apt is asked again.
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return debPackage{}, fmt.Errorf("remember kernel package: %w", err)
	}
	return deb, nil
}
