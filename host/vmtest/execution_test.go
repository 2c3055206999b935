// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// execution is what get_execution and execute with a name or in the background say.
type execution struct {
	ExecutionID string `json:"execution_id"`
	State       string `json:"state"`
	ExitCode    *int   `json:"exit_code"`
	Signal      string `json:"signal"`
	Cancelled   bool   `json:"cancelled"`
	Continued   bool   `json:"continued"`
	Truncated   bool   `json:"truncated"`
	Stdout      string `json:"stdout"`
	Stderr      string `json:"stderr"`
	StdoutURI   string `json:"stdout_uri"`
	StdoutBytes int64  `json:"stdout_bytes"`
	StdoutNext  int64  `json:"stdout_next_offset"`
}

// endLimit is how long what was given up may live.
const endLimit = time.Second

// TestExecution holds what execute, get_execution and cancel_execution promise, in
// one machine.
func TestExecution(t *testing.T) {
	in := Install(t)
	e := &executionTest{t: t, in: in, server: in.Serve(t)}
	e.c = e.server.Connect(t)
	var env environment
	e.c.Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
	e.id = env.ID
	t.Run("code does not notice", e.codeDoesNotNotice)
	t.Run("parameters", e.parameters)
	t.Run("long output", e.longOutput)
	t.Run("hang up", e.hangUp)
	t.Run("cancel", e.cancel)
	t.Run("next server", e.nextServer)
	var discard map[string]any
	e.c.Call(t, "destroy_environment", e.with(nil), &discard)
	nothingLeft(t, in, env.ID)
}

type executionTest struct {
	t      *testing.T // whose end is that of the servers
	in     *Installation
	server *Server
	c      *Session
	id     string
}

func (e *executionTest) with(args map[string]any) map[string]any {
	all := map[string]any{"environment_id": e.id}
	for k, v := range args {
		all[k] = v
	}
	return all
}

func (e *executionTest) execute(t *testing.T, args map[string]any) (x execution) {
	t.Helper()
	e.c.Call(t, "execute", e.with(args), &x)
	return x
}

func (e *executionTest) sh(t *testing.T, script string) string {
	t.Helper()
	x := e.execute(t, map[string]any{"language": "shell", "code": script})
	require.Equal(t, 0, *x.ExitCode, x.Stderr)
	return x.Stdout
}

// codeDoesNotNotice that its file lies elsewhere, and git does not see it.
func (e *executionTest) codeDoesNotNotice(t *testing.T) {
	var discard map[string]any
	e.c.Call(t, "write_file", e.with(map[string]any{"path": "/home/sandbox/p/mine.py", "content": "answer = 42"}), &discard)
	x := e.execute(t, map[string]any{"cwd": "/home/sandbox/p", "code": `import mine, multiprocessing, os, sys
def double(n): return 2 * n
if __name__ == "__main__":
    open("out.txt", "w").write("o")
    print(mine.answer, os.listdir(), oct(os.stat(os.path.dirname(__file__)).st_mode & 0o777), flush=True)
    with multiprocessing.get_context("spawn").Pool(1) as p:
        print(p.map(double, [21]))
    print(open(__file__).readline(), end="")
    raise ValueError("line 9")
`})
	require.Contains(t, x.Stdout, "[42]\nimport mine, multi")
	require.Regexp(t, `^42 \['[a-z_.]*', '[a-z_.]*', '[a-z_.]*'\] 0o700\n`, x.Stdout, "nothing of Waggle lies beside it")
	require.Contains(t, x.Stderr, "line 9, in <module>\n    raise ValueError(\"line 9\")\n")
	require.NotContains(t, x.Stderr, "<string>")
	require.Equal(t, "0\n", e.sh(t, "ls -A /tmp/.waggle | grep -vc sh$ || :"), "the code is gone")
}

func (e *executionTest) parameters(t *testing.T) {
	x := e.execute(t, map[string]any{
		"command": []string{"sh", "-c", `id -u; pwd; echo "$A"; cat`}, "as_root": true, "cwd": "/etc",
		"env": map[string]any{"A": "ä"}, "stdin": strings.Repeat("in\n", 100_000),
	})
	require.Equal(t, "0\n/etc\nä\n"+strings.Repeat("in\n", 100_000)[:20], x.Stdout[:len("0\n/etc\nä\n")+20])
	require.EqualValues(t, 300_010, x.StdoutBytes)
	require.Equal(t, "root\n", e.execute(t, map[string]any{"as_root": true, "code": "import getpass; print(getpass.getuser())"}).Stdout)
	require.Contains(t, e.c.Refused(t, "execute", e.with(map[string]any{"code": "1", "cwd": "/none"})), "cwd is no directory")
	require.Contains(t, e.c.Refused(t, "execute", e.with(map[string]any{"command": []string{"no-such-program"}})), "no-such-program")

	again := map[string]any{"execution_id": "once", "language": "shell", "code": "echo ran >>/tmp/ran; cat /tmp/ran; cat", "stdin": "x\n"}
	require.Equal(t, "ran\nx\n", e.execute(t, again).Stdout)
	x = e.execute(t, again)
	require.Equal(t, "ran\nx\n", x.Stdout)
	require.True(t, x.Continued)
	again["stdin"] = "y\n"
	require.Contains(t, e.c.Refused(t, "execute", e.with(again)), "execution_id was used for another input")
}

func (e *executionTest) longOutput(t *testing.T) {
	x := e.execute(t, map[string]any{"command": []string{"seq", "-w", "1", "100000"}})
	require.True(t, x.Truncated)
	read := func(query string) string {
		var got struct{ Contents []struct{ Text string } }
		e.c.Do(t, "resources/read", map[string]any{"uri": x.StdoutURI + query}, &got)
		require.Len(t, got.Contents, 1)
		return got.Contents[0].Text
	}
	all := read("")
	require.Len(t, all, 700_000)
	require.Equal(t, all[350_000:350_700], read("?offset=350000&limit=700"))
	var piece execution
	e.c.Call(t, "get_execution", e.with(map[string]any{"execution_id": x.ExecutionID, "stdout_offset": 350_000, "limit": 700}), &piece)
	require.Equal(t, all[350_000:350_700], piece.Stdout)
	require.EqualValues(t, 350_700, piece.StdoutNext)
}

// stubborn leaves processes in sessions of their own that hear no SIGTERM.
const stubborn = `import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for i in range(10):
    if os.fork() == 0:
        os.setsid()
        os.execvp("sleep", ["sleep", "87654"])
os.write(1, b"forked\n")
time.sleep(1000)
`

// left counts processes of stubborn, and what runs its code.
const left = "pgrep -c -f 'sleep 8765[4]|[.]waggle/.*[.]py' || :"

// settles waits until so many processes are there.
func (e *executionTest) settles(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(50 * time.Millisecond) {
		got := e.sh(t, left)
		if got == want {
			return
		}
		require.True(t, time.Now().Before(deadline), "%s processes", got)
	}
}

// hangUp closes the connection in the middle of a call, as a client does that gives
// up, in both eras.
func (e *executionTest) hangUp(t *testing.T) {
	for _, c := range []*Session{e.c, e.server.Modern()} {
		ctx, cancel := context.WithCancel(t.Context())
		req := c.request(t, "tools/call", map[string]any{"name": "execute", "arguments": e.with(map[string]any{"code": stubborn})})
		done := make(chan error, 1)
		go func() {
			resp, err := http.DefaultClient.Do(req.WithContext(ctx))
			if err == nil {
				_ = resp.Body.Close()
				err = fmt.Errorf("answered %s", resp.Status)
			}
			done <- err
		}()
		e.settles(t, "11\n")
		cancel()
		began := time.Now()
		require.ErrorIs(t, <-done, context.Canceled)
		e.gone(t, began)
	}
}

// gone waits until nothing is left, no longer than it may take.
func (e *executionTest) gone(t *testing.T, began time.Time) {
	t.Helper()
	var asked time.Time
	for {
		asked = time.Now()
		if e.sh(t, left) == "0\n" {
			break
		}
		require.Less(t, asked.Sub(began), endLimit, "processes are left")
	}
	t.Logf("nothing was left when it was asked for after %s", asked.Sub(began).Round(time.Millisecond))
}

func (e *executionTest) cancel(t *testing.T) {
	x := e.execute(t, map[string]any{"background": true, "code": stubborn})
	require.Equal(t, "running", x.State)
	require.Nil(t, x.ExitCode)
	var got execution
	e.c.Call(t, "get_execution", e.with(map[string]any{"execution_id": x.ExecutionID, "wait_seconds": 20}), &got)
	require.Equal(t, "forked\n", got.Stdout)
	e.settles(t, "11\n")
	began := time.Now()
	e.c.Call(t, "cancel_execution", e.with(map[string]any{"execution_id": x.ExecutionID}), &got)
	t.Logf("cancelled after %s", time.Since(began).Round(time.Millisecond))
	require.Less(t, time.Since(began), endLimit)
	require.Equal(t, "exited", got.State)
	require.Equal(t, "SIGKILL", got.Signal)
	require.True(t, got.Cancelled)
	require.Equal(t, "0\n", e.sh(t, left))
}

// nextServer takes up what an earlier one has started, when that was killed.
func (e *executionTest) nextServer(t *testing.T) {
	args := map[string]any{"execution_id": "long", "timeout_seconds": 60, "code": "import os, time\nos.write(1, b'on\\n')\nwhile not os.path.exists('go'): time.sleep(.05)\nprint(__name__, open(__file__).readline(), end='')"}
	req := e.c.request(t, "tools/call", map[string]any{"name": "execute", "arguments": e.with(args)})
	done := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		done <- err
	}()
	bg := e.execute(t, map[string]any{"background": true, "command": []string{"sleep", "600"}})
	e.settles(t, "1\n")
	e.server.Kill()
	<-done // with an error or a torn answer
	e.server = e.in.Serve(e.t)
	e.c = e.server.Connect(t)

	var got execution
	e.c.Call(t, "get_execution", e.with(map[string]any{"execution_id": "long", "wait_seconds": 20}), &got)
	require.Equal(t, "running", got.State)
	require.Equal(t, "on\n", got.Stdout)
	answer := make(chan json.RawMessage, 1)
	again := e.server.Connect(t)
	go func() {
		defer close(answer)
		resp, err := http.DefaultClient.Do(again.request(t, "tools/call", map[string]any{"name": "execute", "arguments": e.with(args)}))
		if err != nil {
			return
		}
		defer func() { _ = resp.Body.Close() }()
		var r struct {
			Result struct{ StructuredContent json.RawMessage }
		}
		if json.NewDecoder(resp.Body).Decode(&r) == nil {
			answer <- r.Result.StructuredContent
		}
	}()
	e.sh(t, "touch go")
	var x execution
	require.NoError(t, json.Unmarshal(<-answer, &x))
	require.Equal(t, "on\n__main__ import os, time\n", x.Stdout)
	require.True(t, x.Continued)

	e.c.Call(t, "cancel_execution", e.with(map[string]any{"execution_id": bg.ExecutionID}), &got)
	require.Equal(t, "SIGTERM", got.Signal)
	e.c.Call(t, "cancel_execution", e.with(map[string]any{"execution_id": bg.ExecutionID}), &got)
	require.Equal(t, "SIGTERM", got.Signal, "again is no error")
}
