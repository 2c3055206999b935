// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	sshRounds = 25
	sshBulks  = 3
	// atOnce commands run at the same time.
	atOnce     = 100
	sshCrowds  = 3
	openShells = 10
)

// BenchmarkSSH does the same by guestd and by OpenSSH, by turns in one machine.
func BenchmarkSSH(b *testing.B) {
	s := newSite(b)
	e := s.create(b)
	defer e.destroy(b)
	server := startSSH(b, e)
	kept, err := server.connect(b)
	require.NoError(b, err)
	defer kept.Close()
	b.Run("true", func(b *testing.B) { benchSSHTrue(b, server, kept) })
	b.Run("bulk", func(b *testing.B) { benchSSHBulk(b, e, kept) })
	b.Run("crowd", func(b *testing.B) { benchSSHCrowd(b, e, kept) })
	b.Run("shells", func(b *testing.B) { benchSSHShells(b, server) })
}

// benchSSHTrue runs a command that does nothing.
func benchSSHTrue(b *testing.B, server *sshServer, kept *ssh.Client) {
	all, ratio := series{}, series{}
	for i := range sshRounds + 3 {
		began := time.Now()
		client, err := server.connect(b)
		require.NoError(b, err)
		sshRun(b, client, "true")
		require.NoError(b, client.Close())
		fresh := time.Since(began)
		began = time.Now()
		sshRun(b, kept, "true")
		multiplexed := time.Since(began)
		began = time.Now()
		guestdTrue(b, server.env.guest())
		agent := time.Since(began)
		if i < 3 {
			continue // the emulator translates code as it meets it
		}
		all.addTime("fresh", fresh)
		all.addTime("multiplexed", multiplexed)
		all.addTime("guestd", agent)
		ratio.add("fresh-times", fresh.Seconds()/agent.Seconds())
		ratio.add("multiplexed-times", multiplexed.Seconds()/agent.Seconds())
	}
	all.report(b, "sec")
	ratio.report(b, "times")
}

func benchSSHBulk(b *testing.B, e *environment, kept *ssh.Client) {
	helper := copyHelper(b, e.guest(), buildHelper(b))
	rate, ratio := series{}, series{}
	for range sshBulks {
		for _, way := range []direction{toGuest, toHost} {
			over := throughSSH(b, kept, helper, way)
			agent := throughGuestd(b, e.guest(), helper, way)
			rate.add(string(way)+"-ssh", over)
			rate.add(string(way)+"-guestd", agent)
			ratio.add(string(way)+"-times", agent/over)
		}
	}
	rate.report(b, "B/s")
	ratio.report(b, "times")
}

func benchSSHCrowd(b *testing.B, e *environment, kept *ssh.Client) {
	all, ratio := series{}, series{}
	crowd := func(one func()) time.Duration {
		began := time.Now()
		var wg sync.WaitGroup
		for range atOnce {
			wg.Go(one)
		}
		wg.Wait()
		return time.Since(began)
	}
	for range sshCrowds {
		over := crowd(func() { sshRun(b, kept, "true") })
		agent := crowd(func() { guestdTrue(b, e.guest()) })
		all.addTime("ssh", over)
		all.addTime("guestd", agent)
		ratio.add("times", over.Seconds()/agent.Seconds())
	}
	all.report(b, "sec")
	ratio.report(b, "times")
}

// benchSSHShells opens shells on terminals, each by a connection of its own in
// SSH's case, and looks at the memory of those who serve them.
func benchSSHShells(b *testing.B, server *sshServer) {
	clients := make([]*ssh.Client, openShells)
	for i := range clients {
		client, err := server.connect(b)
		require.NoError(b, err)
		session, err := client.NewSession()
		require.NoError(b, err)
		require.NoError(b, session.RequestPty("xterm", 24, 80, nil))
		_, err = session.StdinPipe() // which stays open
		require.NoError(b, err)
		require.NoError(b, session.Shell())
		clients[i] = client
	}
	memory := sshMemory(b, server)
	for _, client := range clients {
		require.NoError(b, client.Close())
	}
	report(b, "ssh", "B", []float64{memory})

	ctx, end := context.WithCancel(b.Context())
	var open, ended sync.WaitGroup
	open.Add(openShells)
	for i := range openShells {
		input, _ := io.Pipe() // which stays open
		ended.Go(func() {
			_, _ = server.env.guest().Run(ctx, guest.Exec{
				Start: &guestv1.Start{
					ExecId: fmt.Sprintf("shell-%d", i), Pty: &guestv1.Pty{Size: &guestv1.TerminalSize{Rows: 24, Cols: 80}},
					Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: []string{"bash", "-i"}}},
				},
				Stdin: input, Started: func(*guestv1.Started) { open.Done() },
			})
		})
	}
	open.Wait()
	info, err := server.env.guest().Info(b.Context())
	require.NoError(b, err)
	end()
	ended.Wait()
	report(b, "guestd", "B", []float64{float64(info.GetAgentResidentBytes())})
}

// sshMemory is what all processes of sshd have for themselves, and once what the
// largest has of files, which they share.
func sshMemory(b *testing.B, server *sshServer) float64 {
	b.Helper()
	var out bytes.Buffer
	_, err := server.env.guest().Run(b.Context(), guest.Exec{
		Start: &guestv1.Start{
			ExecId: fmt.Sprintf("memory-%d", execs.Add(1)),
			Command: &guestv1.Start_Shell{Shell: `grep -lsE '^Name:\s+sshd' /proc/[0-9]*/status |
				xargs grep -hE '^Rss(Anon|File|Shmem)'`},
		},
		Stdout: &out,
	})
	require.NoError(b, err)
	var own, shared float64
	processes := 0
	for line := range strings.Lines(out.String()) {
		fields := strings.Fields(line)
		require.Len(b, fields, 3, out.String())
		kib, err := strconv.ParseFloat(fields[1], 64)
		require.NoError(b, err)
		switch fields[0] {
		case "RssFile:":
			shared = max(shared, kib*1024)
		case "RssAnon:":
			processes++
			own += kib * 1024
		default:
			own += kib * 1024
		}
	}
	require.Greater(b, processes, openShells, out.String())
	return own + shared
}

func sshRun(b *testing.B, client *ssh.Client, command string) {
	session, err := client.NewSession()
	if err != nil {
		b.Error(err)
		return
	}
	defer session.Close()
	if err := session.Run(command); err != nil {
		b.Error(err)
	}
}

func guestdTrue(b *testing.B, client *guest.Client) {
	exited, err := client.Run(b.Context(), guest.Exec{Start: &guestv1.Start{
		ExecId:  fmt.Sprintf("ssh-true-%d", execs.Add(1)),
		Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: []string{"true"}}},
	}})
	if err != nil || exited.GetSpawnFailure() != nil || exited.GetExitCode() != 0 {
		b.Error(err, exited)
	}
}

// throughSSH measures the standard streams of a command, as throughGuestd does.
func throughSSH(b *testing.B, client *ssh.Client, helper string, way direction) float64 {
	b.Helper()
	session, err := client.NewSession()
	require.NoError(b, err)
	defer session.Close()
	s := newOverStdio(way)
	session.Stdin, session.Stdout = s, s
	require.NoError(b, session.Run(fmt.Sprint(helper, " ", way, " ", streamSize)))
	return s.rate()
}
