// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// claimPrefix begins the names of directories that are being made; see claim.
const claimPrefix = ".new-"

// SweepClaims removes from a run directory what processes left that were killed
// while they made a machine's directory, and returns the paths.
func SweepClaims(ctx context.Context, runDir string) ([]string, error) {
	unlock, err := lockDir(ctx, runDir, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("sweep run directory: %w", err)
	}
	defer unlock()
	entries, err := os.ReadDir(runDir)
	if err != nil {
		return nil, fmt.Errorf("sweep run directory: %w", err)
	}
	var removed []string
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), claimPrefix) {
			continue
		}
		path := filepath.Join(runDir, e.Name())
		if err := os.RemoveAll(path); err != nil {
			return removed, fmt.Errorf("sweep run directory: %w", err)
		}
		removed = append(removed, path)
	}
	return removed, nil
}

// SweepDead removes the machines of a run directory that ended longer than keep
// ago; until then their logs say why. It returns the ids. A machine whose record
// cannot be read is left alone: a newer waggle may own it.
func SweepDead(runDir string, keep time.Duration) ([]string, error) {
	all, err := List(runDir)
	if err != nil {
		return nil, err
	}
	var removed []string
	var errs []error
	for _, l := range all {
		if l.Alive || l.Err != nil || time.Since(l.Record.Since) < keep {
			continue
		}
		if err := RemoveDead(l.Dir); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, l.ID)
	}
	return removed, errors.Join(errs...)
}
