// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"context"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestFrontendBreaksProtocol(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(g *guest){
		"unknown request":        func(g *guest) { g.request(99, 0, nil) },
		"wrong version":          func(g *guest) { g.request(reqSetOwner, 2, nil) },
		"reply bit":              func(g *guest) { g.request(reqSetOwner, messageReply, nil) },
		"payload too long":       func(g *guest) { g.request(reqSetOwner, 0, make([]byte, maxPayload+1)) },
		"payload too short":      func(g *guest) { g.request(reqSetFeatures, 0, make([]byte, 7)) },
		"feature not offered":    func(g *guest) { g.request(reqSetFeatures, 0, u64(1<<28)) },
		"protocol not offered":   func(g *guest) { g.request(reqSetProtocolFeatures, 0, u64(1<<12)) },
		"ring out of range":      func(g *guest) { g.request(reqSetVringNum, 0, u32s(queueCount, 8)) },
		"kick without fd":        func(g *guest) { g.request(reqSetVringKick, 0, u64(0)) },
		"kick by polling":        func(g *guest) { g.request(reqSetVringKick, 0, u64(vringNoFD)) },
		"too many regions":       func(g *guest) { g.request(reqSetMemTable, 0, u32s(9, 0)) },
		"regions without fds":    func(g *guest) { g.request(reqSetMemTable, 0, memTable(memRegion{size: ramSize})) },
		"region beyond its file": func(g *guest) { g.table(memRegion{size: ramSize + 1}) },
		"region overflows":       func(g *guest) { g.table(memRegion{size: ramSize, offset: ^uint64(0) - 5}) },
		"empty region":           func(g *guest) { g.table(memRegion{}) },
		"guest address wraps":    func(g *guest) { g.table(memRegion{gpa: ^uint64(0) - 5, size: ramSize}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, Config{})
			do(g)
			require.ErrorIs(t, g.ended(), ErrFrontend)
		})
	}
}

func (g *guest) table(r memRegion) { g.request(reqSetMemTable, 0, memTable(r), g.memfd) }

func TestUnsealedMemoryIsRefused(t *testing.T) {
	t.Parallel()
	g := newGuest(t, Config{})
	g.negotiate()
	fd, err := unix.MemfdCreate("unsealed", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Ftruncate(fd, ramSize))
	// The front-end is told, too: it waits for the answer.
	require.Equal(t, u64(1), g.ask(reqSetMemTable, messageNeedReply, memTable(memRegion{size: ramSize}), fd))
	err = g.ended()
	require.ErrorIs(t, err, ErrMemory)
	require.ErrorContains(t, err, "seal=on")
}

func TestRingOutsideMemory(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]uint64{"outside": ramSize, "crossing": ramSize - 0x6000 - 100, "unaligned": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, Config{})
			g.negotiate()
			g.shareMemory()
			g.request(reqSetFeatures, 0, u64(features))
			bad := g.rx
			bad.at = at
			g.request(reqSetVringNum, 0, u32s(rxQueue, ringSize))
			addr := u32s(rxQueue, 0)
			for _, v := range []uint64{ringAddr(at).desc, ringAddr(at).used, ringAddr(at).avail, 0} {
				addr = append(addr, u64(v)...)
			}
			g.request(reqSetVringAddr, 0, addr)
			g.request(reqSetVringKick, 0, u64(rxQueue), bad.kickFD)
			g.request(reqSetVringEnable, 0, u32s(rxQueue, 1))
			require.ErrorIs(t, g.ended(), ErrMalformedRing)
		})
	}
}

// QMP stop and cont: streams live on, and what was sent meanwhile arrives.
func TestPauseResume(t *testing.T) {
	t.Parallel()
	s, dial := started(t, echo, nil)
	c := dial()
	exchange := func(c *net.UnixConn) {
		b := make([]byte, 4)
		_, err := io.ReadFull(c, b)
		require.NoError(t, err)
		require.Equal(t, "ping", string(b))
	}
	for range 3 {
		_, _ = c.Write([]byte("ping"))
		exchange(c)
		rx, tx := s.g.pause()
		_, _ = c.Write([]byte("ping"))
		fresh := dial()
		_, _ = fresh.Write([]byte("ping"))
		s.g.resume(rx, tx)
		exchange(c)
		exchange(fresh)
	}
}

// A new driver knows nothing of the old one's streams: the host sees EOF, and
// the device serves the new driver.
func TestGuestResetDropsStreams(t *testing.T) {
	t.Parallel()
	for name, reset := range map[string]func(*guest){
		"rings restart": func(g *guest) { g.pause() },
		"RESET_DEVICE":  func(g *guest) { g.request(reqResetDevice, 0, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, host, _ := connected(t)
			reset(g)
			g.restart()
			_, err := host.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
			requireAlive(t, g)
		})
	}
}

// Memory may be added under a running guest.
func TestMemoryTableReplaced(t *testing.T) {
	t.Parallel()
	g, host, h := connected(t)
	g.shareMemory()
	h.op, h.length = opData, 3
	g.put(1, h, []byte("abc"))
	b := make([]byte, 3)
	_, err := io.ReadFull(host, b)
	require.NoError(t, err)
	require.Equal(t, "abc", string(b))
}

func TestFrontendHangsUp(t *testing.T) {
	t.Parallel()
	g, host, _ := connected(t)
	require.NoError(t, g.ctl.Close())
	require.ErrorIs(t, g.ended(), ErrFrontendGone)
	_, err := host.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

// Memory that vanishes ends the device, not the process.
func TestMemoryFault(t *testing.T) {
	t.Parallel()
	s, err := newSession(Config{GuestCID: testCID, Logger: discard})
	require.NoError(t, err)
	defer s.close()
	fd, err := unix.Dup(sealedMemory(t, ramSize))
	require.NoError(t, err)
	s.mem, err = mapMemory([]memRegion{{gpa: ramGPA, uva: ramUVA, size: ramSize}}, []int{fd})
	require.NoError(t, err)
	for i, at := range []uint64{rxRingAt, txRingAt} {
		s.rings[i].queue, err = newQueue(s.mem, ringSize, ringAddr(at), 0)
		require.NoError(t, err)
		s.rings[i].running = true
	}
	require.NoError(t, unix.Mprotect(s.mem.regions[0].mapping, unix.PROT_NONE))
	w, err := unix.Eventfd(1, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	_, err = s.poll.add(w, unix.EPOLLIN, func(uint32) error { return nil })
	require.NoError(t, err)
	require.ErrorIs(t, s.run(context.Background()), ErrMemoryFault)
}

// Not parallel: it counts what the process has.
func TestNothingIsLeft(t *testing.T) {
	openFDs := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries)
	}
	run := func() {
		t.Run("device", func(t *testing.T) {
			block := make(chan struct{})
			s, dial := started(t, func(*guestConn) { <-block }, map[uint32]func(net.Conn){
				1025: func(c net.Conn) {
					_, _ = io.Copy(io.Discard, c)
					_ = c.Close()
				},
			})
			for i := range uint32(10) {
				_, _ = dial().Write(noise(1, 1000))
				_, err := s.dial(1025, 100+i)
				require.NoError(t, err)
			}
			s.g.cancel()
			require.ErrorIs(t, s.g.ended(), context.Canceled)
			close(block)
		})
	}
	run() // what Go starts once (netpoll) is not a leak
	fds, goroutines := openFDs(), runtime.NumGoroutine()
	for range 3 {
		run()
	}
	require.Equal(t, fds, openFDs())
	// Eventually's own goroutine counts as well.
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+1 }, patience, time.Millisecond)
}

func TestNewChecksConfig(t *testing.T) {
	t.Parallel()
	for _, cid := range []uint64{0, 1, 2, 1<<32 - 1, 1 << 40} {
		_, err := New(Config{GuestCID: cid})
		require.ErrorContains(t, err, "guest CID")
	}
	_, err := New(Config{GuestCID: 3, Listeners: map[uint32]*net.UnixListener{1: nil}})
	require.ErrorContains(t, err, "guest port 1")
	_, err = New(Config{GuestCID: 3, Accept: map[uint32]func(net.Conn){1: nil}})
	require.ErrorContains(t, err, "host port 1")
}
