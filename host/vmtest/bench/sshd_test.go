// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/stacklok/waggle/host/guest"
)

const (
	sshPort = 2222
	// sshLimit turns a handshake that hangs into a failure.
	sshLimit = time.Minute
)

// sshServer is Debian's OpenSSH in an environment, reached through a Tunnel of
// guestd: nothing of the host's reaches into a machine but vsock.
type sshServer struct {
	env    *environment
	signer ssh.Signer
}

// startSSH installs and starts OpenSSH with Debian's settings, but for the port and
// the number of sessions on one connection.
func startSSH(b *testing.B, e *environment) *sshServer {
	b.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(b, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(b, err)
	s := &sshServer{env: e, signer: signer}
	s.asRoot(b, string(ssh.MarshalAuthorizedKey(signer.PublicKey())), `set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -q update && apt-get -qy install --no-install-recommends openssh-server
mkdir -p /run/sshd /home/sandbox/.ssh && cat >/home/sandbox/.ssh/authorized_keys
chown -R sandbox /home/sandbox/.ssh && chmod 700 /home/sandbox/.ssh && usermod -p '*' sandbox`)
	s.waggle(b, "", "exec", "--as-root", "-d", e.id, "--", "/usr/sbin/sshd", "-De", "-o", "MaxSessions=200", "-p", "2222")
	deadline := time.Now().Add(sshLimit)
	for ; ; <-time.After(200 * time.Millisecond) {
		client, err := s.connect(b)
		if err == nil {
			require.NoError(b, client.Close())
			return s
		}
		require.True(b, time.Now().Before(deadline), "sshd does not answer: %v", err)
	}
}

// waggle runs the program as a person would.
func (s *sshServer) waggle(b *testing.B, stdin string, args ...string) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), s.env.site.in.Waggle, args...)
	cmd.Env = s.env.site.in.Env()
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	require.NoError(b, err, "%s", out)
}

func (s *sshServer) asRoot(b *testing.B, stdin, script string) {
	b.Helper()
	s.waggle(b, stdin, "exec", "-i", "--as-root", s.env.id, "--", "sh", "-c", script)
}

// connect makes a connection: TCP, key exchange, authentication.
func (s *sshServer) connect(b *testing.B) (*ssh.Client, error) {
	b.Helper()
	tunnel, err := s.env.guest().Tunnel(b.Context(), sshPort)
	if err != nil {
		return nil, err
	}
	conn, channels, requests, err := ssh.NewClientConn(tunnelConn{Tunnel: tunnel}, "guest", &ssh.ClientConfig{
		User: "sandbox", Auth: []ssh.AuthMethod{ssh.PublicKeys(s.signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // a machine that this benchmark has made
		Timeout:         sshLimit,
	})
	if err != nil {
		_ = tunnel.Close()
		return nil, err
	}
	return ssh.NewClient(conn, channels, requests), nil
}

// tunnelConn is a tunnel as package ssh wants it; it sets no deadline.
type tunnelConn struct {
	*guest.Tunnel
	net.Conn
}

func (c tunnelConn) Read(p []byte) (int, error)  { return c.Tunnel.Read(p) }
func (c tunnelConn) Write(p []byte) (int, error) { return c.Tunnel.Write(p) }
func (c tunnelConn) Close() error                { return c.Tunnel.Close() }
func (tunnelConn) LocalAddr() net.Addr           { return &net.TCPAddr{} }
func (tunnelConn) RemoteAddr() net.Addr          { return &net.TCPAddr{} }
