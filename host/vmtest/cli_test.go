// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// cli runs waggle with args and returns its streams and its exit code.
func (in *Installation) cli(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), in.Waggle, args...)
	cmd.Env, cmd.Stdin = in.Env(), strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &exit)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// TestCommands uses a machine of each backend as a person on the host does, without
// a terminal: every command, by the environment's id and by the address of its
// guestd.
func TestCommands(t *testing.T) {
	onEachBackend(t, func(t *testing.T, in *Installation, b backend) {
		if b.disks == nil {
			t.Skip("the machine of a double has one program only")
		}
		commands(t, in)
	})
}

func commands(t *testing.T, in *Installation) {
	var env environment
	in.Serve(t).Connect(t).Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
	defer in.Command(t, "rm", env.ID)

	setClock(t, in, env.ID, "2020-02-02T02:02:02Z") // looked at last
	t.Run("exec", func(t *testing.T) { execFlags(t, in, env.ID) })
	t.Run("detach, attach, kill", func(t *testing.T) { detached(t, in, env.ID) })
	t.Run("files", func(t *testing.T) { files(t, in, env.ID) })
	t.Run("forward", func(t *testing.T) { forwarded(t, in, env.ID) })
	t.Run("address", func(t *testing.T) {
		socket := filepath.Join(in.Run, env.ID, "guestd.sock")
		for _, addr := range []string{"unix://" + socket, "hybrid://" + hybrid(t, socket) + ":1024"} {
			require.Equal(t, env.ID+"\n", in.Command(t, "cat", "--addr", addr, ":/etc/hostname"))
			require.Equal(t, "a b\n", in.Command(t, "exec", "--addr", addr, "echo", "a b"))
		}
	})
	t.Run("clock", func(t *testing.T) {
		require.Eventually(t, func() bool {
			out := strings.TrimSpace(in.Command(t, "exec", env.ID, "date", "+%s"))
			at, err := strconv.ParseInt(out, 10, 64)
			return err == nil && time.Since(time.Unix(at, 0)).Abs() < 5*time.Second
		}, 40*time.Second, time.Second, "the supervisor does not set a wrong clock right")
	})
}

func execFlags(t *testing.T, in *Installation, env string) {
	out := in.Command(t, "exec", "-e", "A=x;y", "-e", "B=2", "-w", "/tmp", "--as-root", env, "--", "sh", "-c", "echo $A $B $PWD $(id -u)")
	require.Equal(t, "x;y 2 /tmp 0\n", out)
	begun := time.Now()
	_, _, code := in.cli(t, "", "exec", "--timeout", "1s", env, "sleep", "1000")
	require.Equal(t, 128+int(syscall.SIGTERM), code)
	require.Less(t, time.Since(begun), 20*time.Second)
	// Under one name a command runs once, however often it is asked for.
	for range 2 {
		out := in.Command(t, "exec", "--exec-id", "once", env, "--", "sh", "-c", "echo ran >> runs; cat runs")
		require.Equal(t, "ran\n", out)
	}
}

func detached(t *testing.T, in *Installation, env string) {
	id := strings.TrimSpace(in.Command(t, "exec", "-d", env, "--", "sh", "-c", "echo one; echo two >&2; sleep 98765"))
	require.Regexp(t, `^exec-[a-z2-7]{8}$`, id)
	var view struct {
		Execs []struct {
			ID    string `json:"exec_id"`
			State string
		}
		MemoryTotal uint64 `json:"memory_total_bytes"`
	}
	require.NoError(t, json.Unmarshal([]byte(in.Command(t, "top", "--json", env)), &view))
	require.Contains(t, view.Execs, struct {
		ID    string `json:"exec_id"`
		State string
	}{id, "running"})
	require.Greater(t, view.MemoryTotal, uint64(256<<20))

	require.Equal(t, id+"\n", in.Command(t, "kill", id[:len(id)-2]))
	out, errOut, code := in.cli(t, "", "attach", env+"/"+id)
	require.Equal(t, "one\n", out, "what it wrote before it was killed")
	require.Equal(t, "two\n", errOut)
	require.Equal(t, 128+int(syscall.SIGTERM), code)
	_, errOut, code = in.cli(t, "", "exec", env, "pgrep", "-f", "sleep 9876[5]")
	require.Equal(t, 1, code, errOut)

	_, errOut, code = in.cli(t, "", "kill", id)
	require.Contains(t, errOut, "has ended")
	require.Equal(t, 1, code)
	_, errOut, code = in.cli(t, "", "exec", "-d", env, "no-such-program")
	require.Contains(t, errOut, "no-such-program")
	require.Equal(t, 127, code)
}

func files(t *testing.T, in *Installation, env string) {
	in.Command(t, "exec", env, "--", "sh", "-c", `mkdir -p d/e; printf 0123456789 > d/f; ln -s f d/l; chmod 640 d/f`)
	require.Equal(t, "345", in.Command(t, "cat", "--offset", "3", "--limit", "3", env+":d/f"))
	require.Equal(t, "e\nf\nl\n", in.Command(t, "ls", env+":d"))
	require.Regexp(t, regexp.MustCompile(`(?m)^-rw-r-----  1000:1000  10 B .* f$`), in.Command(t, "ls", "-l", env+":/home/sandbox/d"))
	_, errOut, code := in.cli(t, "", "cat", env+":nothing")
	require.Contains(t, errOut, "/home/sandbox/nothing")
	require.Equal(t, 1, code)
}

// forwarded reaches a server in the machine through a port of the host, and
// through the standard streams.
func forwarded(t *testing.T, in *Installation, env string) {
	server := strings.TrimSpace(in.Command(t, "exec", "-d", env, "python3", "-um", "http.server", "--bind", "127.0.0.1", "3000"))
	require.Eventually(t, func() bool {
		out, _, _ := in.cli(t, "GET / HTTP/1.0\r\n\r\n", "forward", "--stdio", env, "3000")
		return strings.HasPrefix(out, "HTTP/1.0 200")
	}, 30*time.Second, 200*time.Millisecond, "the server does not answer")

	cmd := exec.CommandContext(t.Context(), in.Waggle, "forward", env, "0:3000")
	cmd.Env = in.Env()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	addr := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
	for range 3 {
		resp, err := http.Get("http://" + addr + "/") //nolint:noctx // the port dies with the command
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Contains(t, string(body), "Directory listing")
	}
	half, err := net.Dial("tcp", addr) // a connection on which nobody says anything
	require.NoError(t, err)
	defer func() { _ = half.Close() }()
	_, err = io.WriteString(half, "GET / HT")
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Wait(), "Ctrl-C is the way to end it")
	in.Command(t, "kill", server)
	_, errOut, code := in.cli(t, "", "forward", "--stdio", env, "3000")
	require.Contains(t, errOut, "3000")
	require.Equal(t, 1, code)
}

// setClock makes the machine's clock wrong, as after the host has slept.
func setClock(t *testing.T, in *Installation, env, to string) {
	t.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(in.Run, env, "guestd.sock"))
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://guest/waggle.guest.v1.System/Configure",
		strings.NewReader(`{"clock":"`+to+`"}`))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, to[:10]+"\n", in.Command(t, "exec", env, "date", "-u", "+%F"))
}
