// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// killTimeout is how long a killed VMM may take to be gone.
const killTimeout = 10 * time.Second

// ErrAlive is a machine whose supervisor lives: stop it instead.
var ErrAlive = errors.New("the environment is alive")

// Listed is one machine of a run directory.
type Listed struct {
	ID  string
	Dir string
	// Record is nil when Err says why it cannot be read.
	Record *Record
	Err    error
	// Alive: its supervisor runs, or somebody is starting it.
	Alive bool
}

// List returns the machines of a run directory by id, dead ones included. A
// directory that does not exist has none.
func List(runDir string) ([]Listed, error) {
	entries, err := os.ReadDir(runDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list environments: %w", err)
	}
	var all []Listed
	for _, e := range entries {
		if !e.IsDir() || CheckID(e.Name()) != nil {
			continue
		}
		l := Listed{ID: e.Name(), Dir: filepath.Join(runDir, e.Name())}
		l.Record, l.Err = ReadRecord(l.Dir)
		if errors.Is(l.Err, fs.ErrNotExist) {
			if _, err := os.Stat(l.Dir); err != nil {
				continue // it ended while we looked
			}
		}
		l.Alive = l.Err == nil && l.Record.Supervisor.Alive()
		all = append(all, l)
	}
	return all, nil
}

// RemoveDead removes what a dead supervisor left: a VMM that outlived it (by pid
// and start time), the scratch disk and the directory.
func RemoveDead(dir string) error {
	id := filepath.Base(dir)
	if err := CheckID(id); err != nil {
		return err
	}
	record, err := ReadRecord(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if answers(dir) {
			return fmt.Errorf("remove environment %s: %w, and %w", id, ErrAlive, err)
		}
		// Without the record the scratch disk is not known, but the user asked.
		_ = os.RemoveAll(dir)
		return fmt.Errorf("remove environment %s: its directory is removed, a disk of it may be left: %w", id, err)
	}
	if record != nil {
		if record.Supervisor.Alive() {
			return fmt.Errorf("remove environment %s: %w", id, ErrAlive)
		}
		if record.VMM != nil {
			if err := record.VMM.kill(killTimeout); err != nil {
				return fmt.Errorf("remove environment %s: %w", id, err)
			}
		}
		if path := record.Spec.ScratchPath; path != "" {
			if err := removeScratch(path); err != nil {
				return fmt.Errorf("remove environment %s: %w", id, err)
			}
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove environment %s: %w", id, err)
	}
	return nil
}

// answers says whether a supervisor listens in dir.
func answers(dir string) bool {
	conn, err := net.DialTimeout("unix", filepath.Join(dir, controlSocket), time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// Find returns the machine whose id is, or begins with, prefix. The error of a
// prefix that fits none or several lists what there is.
func Find(runDir, prefix string) (Listed, error) {
	all, err := List(runDir)
	if err != nil {
		return Listed{}, err
	}
	var fits []Listed
	var ids []string
	for _, l := range all {
		if l.ID == prefix {
			return l, nil
		}
		ids = append(ids, l.ID)
		if prefix != "" && strings.HasPrefix(l.ID, prefix) {
			fits = append(fits, l)
		}
	}
	switch {
	case len(fits) == 1:
		return fits[0], nil
	case len(fits) > 1:
		ids = ids[:0]
		for _, l := range fits {
			ids = append(ids, l.ID)
		}
		return Listed{}, fmt.Errorf("%.80q fits several environments: %s", prefix, strings.Join(ids, ", "))
	case len(ids) == 0:
		return Listed{}, fmt.Errorf("no environment %.80q: %w", prefix, ErrNone)
	}
	return Listed{}, fmt.Errorf("no environment %.80q: there is %s", prefix, strings.Join(ids, ", "))
}

// ErrNone is a run directory without environments.
var ErrNone = errors.New("there is none at all")
