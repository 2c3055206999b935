// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kruntest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// RecordFile is the record's name in the directory of the machine's sockets.
const RecordFile = "double.jsonl"

// Entry is one line of the record: a call of libkrun, or an event of the double.
type Entry struct {
	Call  string `json:"call"`
	Event string `json:"event"`
	PID   int    `json:"pid"`
	TID   int    `json:"tid"`
	// Args by the names of the header; numbers are float64.
	Args map[string]any `json:"args"`
	// Result is nil for a call that has not returned.
	Result *int `json:"result"`
}

// Record reads a record, and nothing where there is none yet.
func Record(t testing.TB, path string) []Entry {
	t.Helper()
	data, err := os.ReadFile(path)
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	var all []Entry
	for line := range strings.Lines(string(data)) {
		var e Entry
		require.NoError(t, json.Unmarshal([]byte(line), &e), "%s", line)
		all = append(all, e)
	}
	return all
}

// Calls are the names of the calls, in order.
func Calls(record []Entry) []string {
	var names []string
	for _, e := range record {
		if e.Call != "" {
			names = append(names, e.Call)
		}
	}
	return names
}

// Named are the calls and events with a name.
func Named(record []Entry, name string) []Entry {
	var some []Entry
	for _, e := range record {
		if e.Call == name || e.Event == name {
			some = append(some, e)
		}
	}
	return some
}
