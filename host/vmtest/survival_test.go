// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// answerLimit is how long guestd may take to answer while commands eat the
	// machine. It means to answer within a second; an emulated one on a busy host
	// gets more.
	answerLimit = 10 * time.Second
	// runLimit is the same for a new command, which waits with the others for
	// memory until what starves has been ended.
	runLimit = 30 * time.Second
	// pollEvery leaves the machine to what eats it.
	pollEvery = 300 * time.Millisecond
)

// TestSurvival has code eat all that a machine has. The result names what was
// eaten, and guestd answers and runs commands all the while.
func TestSurvival(t *testing.T) {
	t.Setenv("WAGGLE_DEFAULT_DISK_MB", "256")
	in := Install(t)
	c := in.Serve(t).Connect(t)
	var env environment
	c.Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
	client := attach(t, in, env.ID).Guest()
	for _, tt := range []struct {
		name, code string
		check      func(t *testing.T, r executed)
		text       string
	}{
		{
			name: "memory", code: "x = []\nwhile True: x.append(bytearray(1 << 20))",
			check: func(t *testing.T, r executed) { require.True(t, r.OOMKilled); require.Equal(t, 137, r.ExitCode) },
			text:  "out of memory",
		},
		{
			name: "memory of a child", code: "import subprocess, sys\nprint('before', flush=True)\n" +
				"print(subprocess.run([sys.executable, '-c', 'x = [bytearray(1 << 20) for _ in range(4096)]']).returncode)",
			check: func(t *testing.T, r executed) {
				require.True(t, r.OOMKilled)
				require.Contains(t, r.Stdout, "before\n")
			},
			text: "out of memory",
		},
		{
			name: "processes", code: "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
			check: func(t *testing.T, r executed) {
				// So many interpreters have no room in the memory either.
				require.True(t, r.PidsExhausted)
				require.True(t, r.TimedOut || r.OOMKilled)
			},
			text: "out of processes",
		},
		{
			name: "disk", code: "import os\nprint('x' * 100000)\ntry:\n  with open('big', 'wb', 0) as f:\n    while True: f.write(b'x' * (1 << 20))\n" +
				"except OSError as e: print(e.strerror)",
			check: func(t *testing.T, r executed) {
				require.Equal(t, []string{"/"}, r.FullFilesystems)
				require.Contains(t, r.Stdout, "\nNo space left on device\n")
				require.Len(t, r.Stdout, 100000+len("\nNo space left on device\n"))
			},
			text: "no room left on /",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			polled := make(chan slowest)
			go func() { polled <- poll(ctx, t, client) }()
			waited := sync.OnceValue(func() slowest { stop(); return <-polled })
			defer waited()
			var r struct {
				executed
				DurationMS int `json:"duration_ms"`
			}
			var answer ToolResult
			c.Do(t, "tools/call", map[string]any{"name": "execute", "arguments": map[string]any{
				"environment_id": env.ID, "code": tt.code, "timeout_seconds": 20,
			}}, &answer)
			slow := waited()
			require.False(t, answer.IsError, answer.Text())
			require.NoError(t, json.Unmarshal(answer.Structured, &r))
			t.Logf("ended after %d ms, %d processes left; guestd answered within %s and ran a command within %s",
				r.DurationMS, r.LeftRunning, slow.info.Round(time.Millisecond), slow.exec.Round(time.Millisecond))
			tt.check(t, r.executed)
			require.Contains(t, answer.Text(), tt.text)
		})
	}
	// What was eaten is given back, and none of it is reported again.
	var r executed
	c.Call(t, "execute", map[string]any{"environment_id": env.ID, "code": "import os\nos.remove('big')\nprint(len(bytearray(200 << 20)))"}, &r)
	require.Equal(t, "209715200\n", r.Stdout, r.Stderr)
	require.False(t, r.OOMKilled || r.PidsExhausted)
	require.Empty(t, r.FullFilesystems)
}

// slowest is the longest time that each kind of call took.
type slowest struct{ info, exec time.Duration }

// poll asks guestd for something and runs a command, over and over until ctx ends.
func poll(ctx context.Context, t *testing.T, client *guest.Client) (slow slowest) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	timed := func(limit time.Duration, call func(context.Context) error) time.Duration {
		callCtx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		began := time.Now()
		if err := call(callCtx); err != nil {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		return time.Since(began)
	}
	for ; ctx.Err() == nil; <-tick.C {
		slow.info = max(slow.info, timed(answerLimit, func(ctx context.Context) error {
			_, err := client.Info(ctx)
			return err
		}))
		slow.exec = max(slow.exec, timed(runLimit, func(ctx context.Context) error {
			exited, err := client.Run(ctx, guest.Exec{Start: &guestv1.Start{
				ExecId:  fmt.Sprintf("poll-%d", time.Now().UnixNano()),
				Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: []string{"true"}}},
			}})
			if err == nil && (exited.GetSpawnFailure() != nil || exited.GetExitCode() != 0) {
				err = fmt.Errorf("true ended with %v", exited)
			}
			return err
		}))
	}
	return slow
}
