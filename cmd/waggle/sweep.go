// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/supervisor"
)

const (
	// keepDead is how long a starting server leaves the logs of dead
	// environments for `waggle logs`. Their disks go at once.
	keepDead = 24 * time.Hour
	// sweepTimeout bounds the wait for processes that are making something just
	// now, which takes them milliseconds.
	sweepTimeout = 10 * time.Second
)

// swept is what a sweep removed.
type swept struct {
	environments, disks, files int
	freed                      int64
}

func (s swept) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{s.environments, "dead environments"}, {s.disks, "disks without a machine"}, {s.files, "unfinished files"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d", p.what, p.n))
		}
	}
	if s.freed > 0 {
		parts = append(parts, humanize.IBytes(uint64(s.freed))+" freed")
	}
	return strings.Join(parts, ", ")
}

// sweep removes what killed processes left in both directories. What lives holds
// a lock, whatever server or command it belongs to, and is left alone. It goes
// on after an error. It makes nothing.
func sweep(ctx context.Context, runDir, dataDir string, keep time.Duration) (swept, error) {
	sweepCtx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	var s swept
	claims, claimsErr := supervisor.SweepClaims(sweepCtx, runDir)
	dead, deadErr := supervisor.SweepDead(runDir, keep)
	disks, freed, disksErr := supervisor.SweepScratch(sweepCtx, scratchDir(dataDir))
	s.files, s.environments, s.disks, s.freed = len(claims), len(dead), len(disks), freed
	return s, errors.Join(claimsErr, deadErr, disksErr, s.caches(dataDir))
}

// caches sweeps the disk cache and the image store, if they are there.
func (s *swept) caches(dataDir string) error {
	var errs []error
	if dir := filepath.Join(dataDir, "disks"); isDir(dir) {
		cache, err := disk.Open(dir, disk.DefaultLimits)
		if err == nil {
			var files []string
			var freed int64
			files, freed, err = cache.Sweep()
			s.files, s.freed = s.files+len(files), s.freed+freed
		}
		errs = append(errs, err)
	}
	if isDir(filepath.Join(dataDir, "images")) {
		store, err := dataFlags{DataDir: dataDir}.openStore()
		if err == nil {
			var freed int64
			freed, err = store.Collect()
			s.freed += freed
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// scratchDir holds the machines' own disks.
func scratchDir(dataDir string) string { return filepath.Join(dataDir, "scratch") }
