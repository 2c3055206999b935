// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/admin"
	"github.com/stacklok/waggle/host/egress"
	"github.com/stacklok/waggle/host/qemu"
)

const (
	// minDataFree is what a new machine needs of the data directory's disk, in
	// bytes: a scratch disk, what a guest writes there before anybody has asked
	// it for anything, and some room, because a guest whose disk cannot grow is
	// stopped.
	minDataFree = 64 << 20
	// minRunFree is the same for sockets, record and logs in the run directory.
	minRunFree = 1 << 20
)

// unready says why an environment could not be made now, each with its remedy.
// It is asked often, so it starts no process: `waggle doctor` looks further.
func unready(lock *admin.Lock, runDir, dataDir string, backend json.RawMessage) []string {
	var why []string
	for _, err := range []error{
		lock.Check(),
		checkSpace("run directory", runDir, minRunFree),
		checkSpace("data directory", dataDir, minDataFree),
	} {
		if err != nil {
			why = append(why, err.Error())
		}
	}
	for _, err := range checkBackend(backend) {
		why = append(why, err.Error())
	}
	return why
}

// checkBackend looks for what machines are made of where a supervisor will: what the
// backend needs, guestd, mkfs.ext4 and the certificates.
func checkBackend(settings json.RawMessage) []error {
	var s backendSettings
	if err := json.Unmarshal(settings, &s); err != nil {
		return []error{fmt.Errorf("read backend settings: %w", err)}
	}
	_, err := s.open(nil)
	missing := each(err)
	if f := checkMkfs(); f.Status == statusMissing {
		missing = append(missing, fmt.Errorf("%s: %s: run `%s`", f.Check, f.Detail, f.Remedy))
	}
	if err := checkGuestCA(s.GuestCA); err != nil {
		missing = append(missing, err)
	}
	return missing
}

// each takes apart what a backend has not found.
func each(err error) []error {
	var missing qemu.MissingError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &missing):
		return missing
	}
	return []error{err}
}

// caRemedy mends certificates that a setting names.
const caRemedy = "correct that setting, or unset it to take the host's bundle"

// checkGuestCA refuses only a file that somebody named: without any, guests trust
// what their image does. The file is WAGGLE_GUEST_CA.
func checkGuestCA(file string) error {
	_, source, err := egress.HostCABundle(file)
	if err == nil || source == "" {
		return nil
	}
	return fmt.Errorf("%w: %s", err, caRemedy)
}

// checkSpace says whether the file system of dir, which need not exist yet, has
// room for need bytes and for new files.
func checkSpace(what, dir string, need uint64) error {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	for errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		err = unix.Statfs(dir, &st)
	}
	if err != nil {
		return fmt.Errorf("ask for free space of the %s %s: %w", what, dir, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < need {
		return fmt.Errorf("the disk of the %s %s is full: %s free, %s needed; free some space there, or choose another with %s",
			what, dir, humanize.IBytes(free), humanize.IBytes(need), dirVariable(what))
	}
	if st.Files > 0 && st.Ffree == 0 {
		return fmt.Errorf("the disk of the %s %s has no inode left: delete files there, or choose another with %s",
			what, dir, dirVariable(what))
	}
	return nil
}

func dirVariable(what string) string {
	if what == "run directory" {
		return "WAGGLE_RUN_DIR"
	}
	return "WAGGLE_DATA_DIR"
}
