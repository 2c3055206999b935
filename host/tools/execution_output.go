// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"fmt"
	"strings"

	"github.com/stacklok/waggle/host/environment"
)

// States of an execution.
const (
	stateRunning = "running"
	stateExited  = "exited"
)

// ending is how an execution ended, or that it runs.
type ending struct {
	ExecutionID string `json:"execution_id" jsonschema_description:"Names the execution for get_execution and cancel_execution."`
	State       string `json:"state" jsonschema_description:"running or exited."`
	ExitCode    *int   `json:"exit_code,omitempty" jsonschema_description:"128 plus the signal's number when a signal ended it. Not there while it runs."`
	Signal      string `json:"signal,omitempty" jsonschema_description:"The signal that ended it, such as SIGKILL."`
	DurationMS  int64  `json:"duration_ms"`
	TimedOut    bool   `json:"timed_out"`
	Cancelled   bool   `json:"cancelled,omitempty" jsonschema_description:"A call ended it, or its caller's end."`
	OOMKilled   bool   `json:"oom_killed" jsonschema_description:"The environment ran out of memory."`
	// These two say why code failed that does not know it.
	PidsExhausted   bool     `json:"pids_exhausted,omitempty" jsonschema_description:"The environment had no room for another process or thread."`
	FullFilesystems []string `json:"full_filesystems,omitempty" jsonschema_description:"Mount points, such as / or /tmp, that had no room left at the end."`
	LeftRunning     int      `json:"left_running" jsonschema_description:"Processes that the code had left running and that were ended."`
}

func endingOf(r environment.ExecResult) ending {
	e := ending{
		ExecutionID: r.ExecutionID, State: stateRunning, DurationMS: r.Duration.Milliseconds(), TimedOut: r.TimedOut,
		Cancelled: r.Cancelled, OOMKilled: r.OOMKilled, Signal: r.Signal,
		PidsExhausted: r.PidsExhausted, FullFilesystems: r.FullFilesystems, LeftRunning: r.LeftRunning,
	}
	if !r.Running {
		e.State, e.ExitCode = stateExited, &r.ExitCode
	}
	return e
}

type executeOutput struct {
	ending
	Stdout string `json:"stdout" jsonschema_description:"Text: bytes that are not UTF-8 are U+FFFD. Write binary data to a file."`
	Stderr string `json:"stderr"`
	// Truncated is here so that a reader need not compare two numbers.
	Truncated      bool   `json:"truncated" jsonschema_description:"The middle of stdout or stderr was cut."`
	StdoutBytes    int64  `json:"stdout_bytes" jsonschema_description:"Bytes written to stdout, those that were cut included."`
	StderrBytes    int64  `json:"stderr_bytes"`
	StdoutCutBytes int64  `json:"stdout_cut_bytes"`
	StderrCutBytes int64  `json:"stderr_cut_bytes"`
	StdoutURI      string `json:"stdout_uri,omitempty" jsonschema_description:"Resource with all of stdout, when it was cut."`
	StderrURI      string `json:"stderr_uri,omitempty"`
	Language       string `json:"language,omitempty"`
	Continued      bool   `json:"continued,omitempty" jsonschema_description:"An earlier call with this execution_id had started it."`
}

func executeOutputOf(r environment.ExecResult) executeOutput {
	return executeOutput{ending: endingOf(r), Continued: r.Continued}
}

// maxText is the most of each stream that the text has, in bytes.
const maxText = 32 << 10

// shorten keeps the beginning and the end of a long text.
func shorten(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText/2], "") + "\n[... the middle is only in the structured result ...]\n" +
		strings.ToValidUTF8(s[len(s)-maxText/2:], "")
}

// note is said when it holds.
type note struct {
	holds bool
	text  string
}

// text is the first line about an execution.
func (e ending) text(more ...note) string {
	var b strings.Builder
	if e.ExitCode == nil {
		fmt.Fprintf(&b, "execution %s is running", e.ExecutionID)
	} else {
		fmt.Fprintf(&b, "exit code %d after %d ms", *e.ExitCode, e.DurationMS)
	}
	for _, n := range append([]note{
		{e.TimedOut, "timed out"},
		{e.Cancelled, "cancelled"},
		{e.OOMKilled, "out of memory"},
		{e.PidsExhausted, "out of processes: it had as many as it may"},
		{len(e.FullFilesystems) > 0, "no room left on " + strings.Join(e.FullFilesystems, ", ")},
		{e.Signal != "", "ended by " + e.Signal},
		{e.LeftRunning > 0, fmt.Sprintf("%d processes left running were ended", e.LeftRunning)},
	}, more...) {
		if n.holds {
			b.WriteString(", " + n.text)
		}
	}
	return b.String()
}

// executeText is for clients that do not read structured results.
func executeText(o executeOutput) string {
	head := o.text(
		note{o.Continued, "started by an earlier call"},
		note{o.State == stateRunning, "get_execution follows it, cancel_execution ends it"},
		note{o.StdoutCutBytes > 0, fmt.Sprintf("%d of %d bytes of stdout were cut", o.StdoutCutBytes, o.StdoutBytes)},
		note{o.StderrCutBytes > 0, fmt.Sprintf("%d of %d bytes of stderr were cut", o.StderrCutBytes, o.StderrBytes)},
		note{o.Truncated, "what was cut can be read for a while: as the resource that is linked, or with get_execution " + o.ExecutionID + " and an offset"},
	)
	return head + streamsText(o.Stdout, o.Stderr)
}

// streamsText is what was written, each stream under its name.
func streamsText(stdout, stderr string) string {
	var b strings.Builder
	for _, stream := range []struct{ name, text string }{{streamStdout, stdout}, {streamStderr, stderr}} {
		if stream.text != "" {
			fmt.Fprintf(&b, "\n%s:\n%s", stream.name, shorten(strings.TrimRight(stream.text, "\n")))
		}
	}
	return b.String()
}
