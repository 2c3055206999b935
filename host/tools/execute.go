// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stacklok/waggle/host/environment"
)

var execute = spec{
	name: "execute", title: "Run code",
	description: "Runs code in an environment and returns stdout, stderr and the exit code; an exit code other than 0 is a normal result. " +
		"Each call is a new process in the environment's working directory; processes that it leaves behind are ended.",
	destructive: true, openWorld: true,
	bounds: func(m *environment.Manager) parameters {
		def, most := m.ExecTimeouts()
		return parameters{
			"code": {"minLength": 1, "maxLength": environment.MaxCode},
			"language": {
				"enum": m.Runtimes(),
				"description": "What the code is written in. Default: the environment's runtime, or, if it was made of an image, " +
					"the first of the languages that create_environment returned.",
			},
			"timeout_seconds": {
				"minimum": 1, "maximum": int(most.Seconds()),
				"description": fmt.Sprintf("Seconds after which the code and everything it started is ended, 1 to %d. Default: %g.",
					int(most.Seconds()), def.Seconds()),
			},
		}
	},
}

type executeInput struct {
	EnvironmentID  string `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
	Code           string `json:"code" jsonschema_description:"The source to run. May have many lines."`
	Language       string `json:"language,omitempty"`
	TimeoutSeconds *int64 `json:"timeout_seconds,omitempty"`
}

type executeOutput struct {
	ExitCode   int    `json:"exit_code" jsonschema_description:"128 plus the signal's number when a signal ended it."`
	Stdout     string `json:"stdout" jsonschema_description:"Text: bytes that are not UTF-8 are U+FFFD. Write binary data to a file."`
	Stderr     string `json:"stderr"`
	DurationMS int64  `json:"duration_ms"`
	TimedOut   bool   `json:"timed_out"`
	OOMKilled  bool   `json:"oom_killed" jsonschema_description:"The environment ran out of memory."`
	// These two say why code failed that does not know it.
	PidsExhausted   bool     `json:"pids_exhausted,omitempty" jsonschema_description:"The environment had no room for another process or thread."`
	FullFilesystems []string `json:"full_filesystems,omitempty" jsonschema_description:"Mount points, such as / or /tmp, that had no room left at the end."`
	Signal          string   `json:"signal,omitempty" jsonschema_description:"The signal that ended it, such as SIGKILL."`
	// Truncated is here so that a reader need not compare two numbers.
	Truncated      bool   `json:"truncated" jsonschema_description:"The middle of stdout or stderr was cut."`
	StdoutBytes    int64  `json:"stdout_bytes" jsonschema_description:"Bytes written to stdout, those that were cut included."`
	StderrBytes    int64  `json:"stderr_bytes"`
	StdoutCutBytes int64  `json:"stdout_cut_bytes"`
	StderrCutBytes int64  `json:"stderr_cut_bytes"`
	LeftRunning    int    `json:"left_running" jsonschema_description:"Processes that the code had left running and that were ended."`
	Language       string `json:"language"`
}

func (t *tools) execute(ctx context.Context, c *call, in executeInput) (executeOutput, string, error) {
	req := environment.ExecRequest{
		Code: in.Code, Language: in.Language, Timeout: timeout(in.TimeoutSeconds, time.Second),
	}
	if c.wantsProgress() {
		budget := maxProgressOutput
		req.Output = func(_ bool, p []byte) {
			// The whole comes with the result: progress is for watching.
			p = p[:min(len(p), budget)]
			budget -= len(p)
			c.progress(strings.ToValidUTF8(string(p), "\uFFFD"))
		}
	}
	r, err := t.manager.Exec(ctx, in.EnvironmentID, req)
	if err != nil {
		return executeOutput{}, "", err
	}
	out := executeOutput{
		ExitCode: r.ExitCode, Stdout: r.Stdout.Text, Stderr: r.Stderr.Text, DurationMS: r.Duration.Milliseconds(),
		TimedOut: r.TimedOut, OOMKilled: r.OOMKilled, Signal: r.Signal,
		Truncated:   r.Stdout.CutBytes+r.Stderr.CutBytes > 0,
		StdoutBytes: r.Stdout.Bytes, StderrBytes: r.Stderr.Bytes,
		StdoutCutBytes: r.Stdout.CutBytes, StderrCutBytes: r.Stderr.CutBytes,
		LeftRunning: r.LeftRunning, Language: r.Language,
		PidsExhausted: r.PidsExhausted, FullFilesystems: r.FullFilesystems,
	}
	return out, executeText(out), nil
}

// maxProgressOutput is the most output that one call sends as progress, in bytes.
const maxProgressOutput = 64 << 10

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

// executeText is for clients that do not read structured results.
func executeText(o executeOutput) string {
	var b strings.Builder
	fmt.Fprintf(&b, "exit code %d after %d ms", o.ExitCode, o.DurationMS)
	for _, note := range []struct {
		holds bool
		text  string
	}{
		{o.TimedOut, "timed out"},
		{o.OOMKilled, "out of memory"},
		{o.PidsExhausted, "out of processes: it had as many as it may"},
		{len(o.FullFilesystems) > 0, "no room left on " + strings.Join(o.FullFilesystems, ", ")},
		{o.Signal != "", "ended by " + o.Signal},
		{o.LeftRunning > 0, fmt.Sprintf("%d processes left running were ended", o.LeftRunning)},
		{o.StdoutCutBytes > 0, fmt.Sprintf("%d of %d bytes of stdout were cut", o.StdoutCutBytes, o.StdoutBytes)},
		{o.StderrCutBytes > 0, fmt.Sprintf("%d of %d bytes of stderr were cut", o.StderrCutBytes, o.StderrBytes)},
		{o.Truncated, "what was cut is lost: write to a file to keep all"},
	} {
		if note.holds {
			b.WriteString(", " + note.text)
		}
	}
	for _, stream := range []struct{ name, text string }{{"stdout", o.Stdout}, {"stderr", o.Stderr}} {
		if stream.text != "" {
			fmt.Fprintf(&b, "\n%s:\n%s", stream.name, shorten(strings.TrimRight(stream.text, "\n")))
		}
	}
	return b.String()
}
