// SPDX-License-Identifier: Apache-2.0

package krunbundle

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/stacklok/go-microvm/extract"
)

const (
	currentName = "current"
	lockName    = ".fetch.lock"
	// manifestName is what extract writes beside the files.
	manifestName = ".manifest.json"
)

// lockPoll is how often a second fetch looks whether the first has ended.
const lockPoll = 100 * time.Millisecond

// Options say what to install, and where.
type Options struct {
	Pins Pins
	// Mirror has the archives; Pins.URL if empty.
	Mirror string
	// Dir is made if it is not there.
	Dir string
	// GOOS and GOARCH are the platform's.
	GOOS, GOARCH string
	// Progress is told each step, for people.
	Progress func(step string)
}

// Current is the directory of the libraries in dir, whether there are any or not.
func Current(dir string) string { return filepath.Join(dir, currentName) }

// Install fetches, verifies and installs, and returns the directory of the
// libraries. What is there already and whole is not fetched again. Any number may
// do so at once: one fetches, the others wait for it. After an error the current
// libraries are those of before.
func Install(ctx context.Context, o Options) (string, error) {
	archives, err := o.Pins.archives(o.GOOS, o.GOARCH)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return "", fmt.Errorf("make the directory of libkrun: %w", err)
	}
	lock := flock.New(filepath.Join(o.Dir, lockName))
	if _, err := lock.TryLockContext(ctx, lockPoll); err != nil {
		return "", fmt.Errorf("wait for another fetch into %s: %w", o.Dir, err)
	}
	defer func() { _ = lock.Unlock() }() // it goes with the descriptor
	version := bundleVersion(o.Pins, archives)
	current := Current(o.Dir)
	if whole(current, version) && finish(current, archives) == nil {
		o.Progress("libkrun of go-microvm " + o.Pins.Release + " is there already")
		return current, nil
	}
	if err := sweep(o.Dir); err != nil {
		return "", fmt.Errorf("install libkrun: %w", err)
	}
	files, err := o.fetch(ctx, archives)
	if err != nil {
		return "", err
	}
	dir, err := extract.NewBundle(version, files).Ensure(o.Dir)
	if err != nil {
		return "", fmt.Errorf("install libkrun: %w", err)
	}
	if err := finish(dir, archives); err != nil {
		return "", fmt.Errorf("install libkrun: %w", err)
	}
	if err := link(filepath.Base(dir), current); err != nil {
		return "", fmt.Errorf("install libkrun: %w", err)
	}
	return current, nil
}

// fetch returns the files of all archives.
func (o Options) fetch(ctx context.Context, archives []archive) ([]extract.File, error) {
	base := cmp.Or(o.Mirror, o.Pins.URL)
	var files []extract.File
	for _, a := range archives {
		o.Progress("fetching " + a.name)
		content, err := download(ctx, base, a)
		if err != nil {
			return nil, err
		}
		more, err := unpack(a, content)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return files, nil
}

// sweep removes what a killed fetch left half done. The lock is held.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "extract-tmp-*"))
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// finish does what extract leaves: the names that programs load the libraries by,
// which it does not mend, and a mode with which another user, as whom root runs
// waggle-krun, can read what only the owner can write.
func finish(dir string, archives []archive) error {
	for _, a := range archives {
		for name, as := range a.files {
			if name == as {
				continue
			}
			if err := link(as, filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return os.Chmod(dir, 0o755)
}

// link makes path a link to target, whatever it was, in one step: who opens it
// meanwhile finds the old or the new.
func link(target, path string) error {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, next); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// bundleVersion names what was installed by the checksums of the archives.
func bundleVersion(p Pins, archives []archive) string {
	v := "go-microvm " + p.Release
	for _, a := range archives {
		v += " " + a.sha256
	}
	return v
}

// whole says whether dir holds that version, with nothing of it changed. extract
// says so only of content that one has already.
func whole(dir, version string) bool {
	text, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return false
	}
	var m struct {
		Version string            `json:"version"`
		Files   map[string]string `json:"files"`
	}
	if err := json.Unmarshal(text, &m); err != nil || m.Version != version || len(m.Files) == 0 {
		return false
	}
	for name, want := range m.Files {
		content, err := os.ReadFile(filepath.Join(dir, name))
		sum := sha256.Sum256(content)
		if err != nil || hex.EncodeToString(sum[:]) != want {
			return false
		}
	}
	return true
}
