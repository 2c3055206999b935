// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bufio"
	"bytes"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serverLimit turns a server that does not start or end into a failure.
const serverLimit = 30 * time.Second

// Server is a running `waggle serve`.
type Server struct {
	URL string
	// Token is what its sessions send. Empty: none.
	Token string
	cmd   *exec.Cmd
	// done is closed when the process has been waited for.
	done chan struct{}
}

var urlLine = regexp.MustCompile(`http://[0-9.:]+/mcp`)

// Serve starts a server on a free port and returns when it has printed its URL.
// The server is ended with the test.
func (in *Installation) Serve(t testing.TB) *Server {
	t.Helper()
	s := &Server{done: make(chan struct{})}
	s.cmd = exec.Command(in.Waggle, "serve", "--listen-addr=127.0.0.1:0") // ended in Cleanup, by SIGTERM
	in.prepare(s.cmd)
	out, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	stderr := &bytes.Buffer{}
	s.cmd.Stderr = stderr
	require.NoError(t, s.cmd.Start())
	url := make(chan string, 1)
	go func() {
		defer close(s.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if u := urlLine.FindString(lines.Text()); u != "" {
				url <- u
			}
		}
		_ = s.cmd.Wait() // how it ended is the test's own question
	}()
	t.Cleanup(func() {
		s.Signal(syscall.SIGTERM)
		select {
		case <-s.done:
		case <-time.After(serverLimit):
			s.Signal(syscall.SIGKILL)
			<-s.done
			t.Error("the server did not end on SIGTERM")
		}
		if t.Failed() {
			t.Logf("server's log:\n%s", stderr.String())
		}
	})
	select {
	case s.URL = <-url:
	case <-s.done:
		t.Fatalf("the server ended: %s", stderr.String())
	case <-time.After(serverLimit):
		t.Fatal("the server did not print its URL")
	}
	return s
}

// PID is the process id of the server.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Signal sends sig to the server, if it still runs.
func (s *Server) Signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

// Kill ends the server as a crash would, and waits for it.
func (s *Server) Kill() {
	s.Signal(syscall.SIGKILL)
	<-s.done
}
