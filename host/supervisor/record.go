// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/stacklok/waggle/version"
)

// recordVersion is the version of vm.json.
const recordVersion = 1

// Record is vm.json: what is known of a machine without asking its supervisor.
type Record struct {
	Version int `json:"version"`
	// Waggle is the build that wrote it.
	Waggle    string    `json:"waggle"`
	CreatedAt time.Time `json:"created_at"`
	Spec      Spec      `json:"spec"`
	// Supervisor owns the machine; while it is being started, whoever starts it.
	Supervisor Process `json:"supervisor"`
	// VMM is nil before it runs.
	VMM *Process `json:"vmm,omitempty"`
	// Phase, Cause and Message are those of hostv1.State, by name.
	Phase   string    `json:"phase"`
	Since   time.Time `json:"since"`
	Cause   string    `json:"cause,omitempty"`
	Message string    `json:"message,omitempty"`
}

func newRecord(spec Spec) (Record, error) {
	me, err := self()
	if err != nil {
		return Record{}, err
	}
	now := time.Now()
	return Record{
		Version: recordVersion, Waggle: version.String(), CreatedAt: now, Spec: spec,
		Supervisor: me, Phase: "STARTING", Since: now,
	}, nil
}

// write replaces vm.json as a whole. Env may hold secrets: 0600.
func (r *Record) write(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", recordFile, err)
	}
	path := filepath.Join(dir, recordFile)
	if err := os.WriteFile(path+".tmp", append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", recordFile, err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("write %s: %w", recordFile, err)
	}
	return nil
}

// ReadRecord reads vm.json of the machine in dir.
func ReadRecord(dir string) (*Record, error) {
	f, err := os.Open(filepath.Join(dir, recordFile))
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	defer func() { _ = f.Close() }()
	r := &Record{}
	if err := json.NewDecoder(io.LimitReader(f, maxSpec*2)).Decode(r); err != nil {
		return nil, fmt.Errorf("read record %s: %w", f.Name(), err)
	}
	if r.Version > recordVersion {
		return nil, fmt.Errorf("read record %s: it has version %d and this waggle knows %d; use the newer waggle",
			f.Name(), r.Version, recordVersion)
	}
	if r.Version < 1 {
		return nil, errors.New("read record " + f.Name() + ": it has no version")
	}
	return r, nil
}
