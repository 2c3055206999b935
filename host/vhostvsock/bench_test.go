// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"io"
	"testing"
)

// The benchmarks include the test's own driver and copies, so they bound the
// device from below.

func BenchmarkHostToGuest(b *testing.B) {
	_, dial := started(b, func(c *guestConn) {
		_, _ = io.CopyBuffer(io.Discard, struct{ io.Reader }{c}, make([]byte, 64<<10))
		c.Close()
	}, nil)
	c := dial()
	chunk := make([]byte, 64<<10)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, err := c.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGuestToHost(b *testing.B) {
	_, dial := started(b, func(c *guestConn) {
		chunk := make([]byte, 64<<10)
		for {
			if _, err := c.Write(chunk); err != nil {
				c.Close()
				return
			}
		}
	}, nil)
	c := dial()
	chunk := make([]byte, 64<<10)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, err := io.ReadFull(c, chunk); err != nil {
			b.Fatal(err)
		}
	}
	_ = c.Close()
}

func BenchmarkEcho(b *testing.B) {
	_, dial := started(b, echo, nil)
	c := dial()
	one := make([]byte, 1)
	for b.Loop() {
		if _, err := c.Write(one); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, one); err != nil {
			b.Fatal(err)
		}
	}
}
