// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type serverStatus struct {
	PID   int               `json:"pid"`
	URL   string            `json:"mcp_url"`
	Ready bool              `json:"ready"`
	Why   []string          `json:"not_ready"`
	Count map[string]uint32 `json:"environments_by_state"`
}

func statusOf(t *testing.T, in *Installation) serverStatus {
	t.Helper()
	var s serverStatus
	require.NoError(t, json.Unmarshal([]byte(in.Command(t, "status", "--json")), &s))
	return s
}

// TestServerEnds follows one machine through the ends of three servers: one is
// told to end while a call runs, one is told twice, one is killed.
func TestServerEnds(t *testing.T) {
	in := Install(t)
	orphan, unfinished := leftovers(t, in)
	s := in.Serve(t)
	require.NoFileExists(t, orphan)
	require.NoDirExists(t, unfinished)
	secondIsRefused(t, in, s)
	c := s.Connect(t)
	var env environment
	c.Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
	t.Cleanup(func() { _ = command(context.Background(), in, "rm", "--all").Run() }) // nothing to do after a success
	require.Equal(t, serverStatus{PID: s.cmd.Process.Pid, URL: s.URL, Ready: true, Count: map[string]uint32{"running": 1}}, statusOf(t, in))

	// The call ends well, and so does the server after it.
	first := sleeper(t, in, s, env.ID, "first", 2)
	s.Signal(syscall.SIGTERM)
	require.False(t, isDone(s), "the server waits for the call")
	require.Equal(t, "slept\n", (<-first).Stdout)
	<-s.done
	require.Zero(t, s.cmd.ProcessState.ExitCode())

	// Nobody waits for this one.
	s = in.Serve(t)
	sleeper(t, in, s, env.ID, "second", 60)
	began := time.Now()
	s.Signal(syscall.SIGINT)
	require.Eventually(t, func() bool { return !statusOf(t, in).Ready }, serverLimit, 10*time.Millisecond, "it has seen the signal")
	require.False(t, isDone(s))
	s.Signal(syscall.SIGINT)
	<-s.done
	require.Less(t, time.Since(began), 10*time.Second)

	// What is left of a killed server does not stop the next.
	in.Serve(t).Kill()
	require.FileExists(t, filepath.Join(in.Run, "waggle.sock"))
	in.Serve(t)
	require.Equal(t, map[string]uint32{"running": 1}, statusOf(t, in).Count)
	require.FileExists(t, filepath.Join(in.Data, "scratch", env.ID+".ext4"), "four servers have swept")
	in.Command(t, "rm", "--all")
	nothingLeft(t, in, env.ID)
}

// leftovers are a disk and a directory as killed processes leave them.
func leftovers(t *testing.T, in *Installation) (disk, dir string) {
	t.Helper()
	disk = filepath.Join(in.Data, "scratch", fmt.Sprintf("env-left%d.ext4", os.Getpid()))
	dir = filepath.Join(in.Run, ".new-1")
	require.NoError(t, os.MkdirAll(filepath.Dir(disk), 0o700))
	require.NoError(t, os.WriteFile(disk, []byte("x"), 0o600))
	require.NoError(t, os.MkdirAll(dir, 0o700))
	return disk, dir
}

func secondIsRefused(t *testing.T, in *Installation, s *Server) {
	t.Helper()
	out, err := command(t.Context(), in, "serve", "--listen-addr=127.0.0.1:0").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), fmt.Sprintf("another server (pid %d, %s)", s.cmd.Process.Pid, s.URL))
}

func command(ctx context.Context, in *Installation, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, in.Waggle, args...)
	cmd.Env = in.Env()
	return cmd
}

// sleeper makes a call that runs for some seconds, and returns when its code
// does. Its result comes if the server lets it.
func sleeper(t *testing.T, in *Installation, s *Server, id, name string, seconds int) <-chan executed {
	t.Helper()
	began := "/tmp/" + name
	code := fmt.Sprintf("import time; open(%q, 'w'); time.sleep(%d); print('slept')", began, seconds)
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": map[string]any{
		"name": "execute", "arguments": map[string]any{"environment_id": id, "timeout_seconds": seconds + 30, "code": code},
	}})
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("MCP-Protocol-Version", "2025-11-25")
	result := make(chan executed, 1)
	go func() {
		defer close(result)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		var answer struct {
			Result struct{ StructuredContent executed }
		}
		if json.NewDecoder(resp.Body).Decode(&answer) == nil {
			result <- answer.Result.StructuredContent
		}
	}()
	require.Eventually(t, func() bool {
		return command(t.Context(), in, "exec", id, "--", "test", "-e", began).Run() == nil
	}, serverLimit, 20*time.Millisecond, "the code runs")
	return result
}

func isDone(s *Server) bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}
