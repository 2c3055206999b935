// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The tests play both the front-end (QEMU) and the guest's driver: memory is a
// memfd, and the rings in it are written here.
const (
	testCID   = 42
	ramSize   = 8 << 20
	ramGPA    = 0x4000_0000
	ramUVA    = 0x7f00_0000_0000
	ringSize  = 256
	rxBufSize = 4096
	txBufSize = 64 << 10

	rxRingAt = 0x0000
	txRingAt = 0x8000
	rxBufAt  = 0x10_0000 // ringSize/2 header+data buffers
	txBufAt  = 0x40_0000 // one slot of 64 KiB for each of txSlots chains
	txSlots  = 32
)

func ringAddr(at uint64) vringAddr {
	return vringAddr{desc: ramUVA + at, avail: ramUVA + at + 0x4000, used: ramUVA + at + 0x6000}
}

// guest is a VM without a CPU: the test moves its hands.
type guest struct {
	t      testing.TB
	ctl    *net.UnixConn
	memfd  int
	ram    []byte
	rx, tx driverRing
	runErr chan error
	cancel context.CancelFunc

	ctlMu sync.Mutex
}

// driverRing is the driver's half of a queue.
type driverRing struct {
	at         uint64
	kick, call *os.File
	kickFD     int
	callFD     int
	avail      uint16 // next available index
	seen       uint16 // next used entry to look at
}

// newGuest starts a device for cfg and its guest, whose device is not started.
func newGuest(t testing.TB, cfg Config) *guest {
	t.Helper()
	if cfg.GuestCID == 0 {
		cfg.GuestCID = testCID
	}
	dev, err := New(cfg)
	require.NoError(t, err)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	g := &guest{t: t, runErr: make(chan error, 1)}
	g.ctl = fileConn(t, fds[0])
	g.memfd = sealedMemory(t, ramSize)
	g.ram, err = unix.Mmap(g.memfd, 0, ramSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	g.rx, g.tx = newDriverRing(t, rxRingAt), newDriverRing(t, txRingAt)

	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	back := fileConn(t, fds[1])
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.runErr <- dev.Run(ctx, back)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = g.ctl.Close()
		_ = unix.Munmap(g.ram)
		_ = unix.Close(g.memfd)
		for _, f := range []*os.File{g.rx.kick, g.rx.call, g.tx.kick, g.tx.call} {
			_ = f.Close()
		}
	})
	return g
}

func fileConn(t testing.TB, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	require.NoError(t, err)
	return c.(*net.UnixConn)
}

func sealedMemory(t testing.TB, size int64) int {
	t.Helper()
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	require.NoError(t, err)
	require.NoError(t, unix.Ftruncate(fd, size))
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	require.NoError(t, err)
	return fd
}

func newDriverRing(t testing.TB, at uint64) driverRing {
	t.Helper()
	r := driverRing{at: at}
	var err error
	r.kickFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	r.callFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	r.kick, r.call = os.NewFile(uintptr(r.kickFD), "kick"), os.NewFile(uintptr(r.callFD), "call")
	return r
}

// request sends a vhost-user message.
func (g *guest) request(req uint32, flags uint32, payload []byte, fds ...int) {
	g.ctlMu.Lock()
	defer g.ctlMu.Unlock()
	b := binary.LittleEndian.AppendUint32(nil, req)
	b = binary.LittleEndian.AppendUint32(b, messageVersion|flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err := g.ctl.WriteMsgUnix(b, oob, nil)
	require.NoError(g.t, err)
}

// ask sends a message that is answered and returns the answer's payload.
func (g *guest) ask(req, flags uint32, payload []byte, fds ...int) []byte {
	g.t.Helper()
	g.request(req, flags, payload, fds...)
	var head [messageHeaderSize]byte
	_, err := readFull(g.ctl, head[:])
	require.NoError(g.t, err)
	require.Equal(g.t, req, binary.LittleEndian.Uint32(head[0:]))
	require.EqualValues(g.t, messageVersion|messageReply, binary.LittleEndian.Uint32(head[4:]))
	reply := make([]byte, binary.LittleEndian.Uint32(head[8:]))
	_, err = readFull(g.ctl, reply)
	require.NoError(g.t, err)
	return reply
}

func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func u32s(vs ...uint32) (b []byte) {
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// negotiate does what QEMU does when the device is realized.
func (g *guest) negotiate() {
	require.EqualValues(g.t, features, binary.LittleEndian.Uint64(g.ask(reqGetFeatures, 0, nil)))
	require.EqualValues(g.t, protoFeatures, binary.LittleEndian.Uint64(g.ask(reqGetProtocolFeatures, 0, nil)))
	g.request(reqSetProtocolFeatures, 0, u64(protoFeatures))
	require.EqualValues(g.t, queueCount, binary.LittleEndian.Uint64(g.ask(reqGetQueueNum, 0, nil)))
	g.request(reqSetOwner, 0, nil)
	config := g.ask(reqGetConfig, 0, append(u32s(0, 8, 0), make([]byte, 8)...))
	require.EqualValues(g.t, testCID, binary.LittleEndian.Uint64(config[12:]))
}

// shareMemory hands the memory table over and expects it to be accepted.
func (g *guest) shareMemory() {
	require.Zero(g.t, binary.LittleEndian.Uint64(
		g.ask(reqSetMemTable, messageNeedReply, memTable(memRegion{gpa: ramGPA, size: ramSize, uva: ramUVA}), g.memfd)))
}

func memTable(regions ...memRegion) []byte {
	b := u32s(uint32(len(regions)), 0)
	for _, r := range regions {
		b = append(b, u64(r.gpa)...)
		b = append(b, u64(r.size)...)
		b = append(b, u64(r.uva)...)
		b = append(b, u64(r.offset)...)
	}
	return b
}

// startRing tells the device about ring i, which goes on at base.
func (g *guest) startRing(i uint32, r *driverRing, base uint16) {
	a := ringAddr(r.at)
	g.request(reqSetVringNum, 0, u32s(i, ringSize))
	g.request(reqSetVringBase, 0, u32s(i, uint32(base)))
	addr := u32s(i, 0)
	for _, v := range []uint64{a.desc, a.used, a.avail, 0} {
		addr = append(addr, u64(v)...)
	}
	g.request(reqSetVringAddr, 0, addr)
	g.request(reqSetVringCall, 0, u64(uint64(i)), r.callFD)
	g.request(reqSetVringKick, 0, u64(uint64(i)), r.kickFD)
	g.ask(reqSetVringEnable, messageNeedReply, u32s(i, 1))
}

// start boots: a fresh driver lays its rings and gives rx buffers.
func (g *guest) start() {
	g.negotiate()
	g.shareMemory()
	g.restart()
}

// restart is a new driver, as after a reset of the guest.
func (g *guest) restart() {
	clear(g.ram[:rxBufAt])
	for _, r := range []*driverRing{&g.rx, &g.tx} {
		r.avail, r.seen = 0, 0
	}
	for i := range uint16(ringSize / 2) {
		g.giveBuffer(i * 2)
	}
	g.request(reqSetFeatures, 0, u64(features))
	g.startRing(rxQueue, &g.rx, 0)
	g.startRing(txQueue, &g.tx, 0)
}

// pause is QMP stop; resume is cont.
func (g *guest) pause() (rx, tx uint16) {
	rx = uint16(binary.LittleEndian.Uint32(g.ask(reqGetVringBase, 0, u32s(rxQueue, 0))[4:]))
	tx = uint16(binary.LittleEndian.Uint32(g.ask(reqGetVringBase, 0, u32s(txQueue, 0))[4:]))
	return rx, tx
}

func (g *guest) resume(rx, tx uint16) {
	g.request(reqSetFeatures, 0, u64(features))
	g.startRing(rxQueue, &g.rx, rx)
	g.startRing(txQueue, &g.tx, tx)
}

// desc writes descriptor i of a ring.
func (g *guest) desc(r *driverRing, i uint16, gpa uint64, length uint32, flags, next uint16) {
	b := g.ram[r.at+16*uint64(i):]
	binary.LittleEndian.PutUint64(b[0:], gpa)
	binary.LittleEndian.PutUint32(b[8:], length)
	binary.LittleEndian.PutUint16(b[12:], flags)
	binary.LittleEndian.PutUint16(b[14:], next)
}

// offer makes the chain from head available.
func (g *guest) offer(r *driverRing, head uint16) {
	binary.LittleEndian.PutUint16(g.ram[r.at+0x4000+4+2*uint64(r.avail%ringSize):], head)
	r.avail++
	g.setAvail(r, r.avail)
}

func (g *guest) setAvail(r *driverRing, idx uint16) {
	atomic.StoreUint32(word(g.ram[r.at+0x4000:]), uint32(idx)<<16)
}

// notify kicks unless the device asked not to.
func (g *guest) notify(r *driverRing) {
	if atomic.LoadUint32(word(g.ram[r.at+0x6000:]))&usedNoNotify == 0 {
		_, _ = unix.Write(r.kickFD, u64(1))
	}
}

// used returns the next used entry, if there is one.
func (g *guest) used(r *driverRing) (head uint16, length uint32, ok bool) {
	if uint16(atomic.LoadUint32(word(g.ram[r.at+0x6000:]))>>16) == r.seen {
		return 0, 0, false
	}
	e := g.ram[r.at+0x6000+4+8*uint64(r.seen%ringSize):]
	r.seen++
	return uint16(binary.LittleEndian.Uint32(e)), binary.LittleEndian.Uint32(e[4:]), true
}

// giveBuffer offers the rx buffer whose first descriptor is head: a header and
// a data descriptor, as Linux 6.1 does it.
func (g *guest) giveBuffer(head uint16) {
	at := ramGPA + rxBufAt + uint64(head/2)*(headerSize+rxBufSize)
	g.desc(&g.rx, head, at, headerSize, descNext|descWrite, head+1)
	g.desc(&g.rx, head+1, at+headerSize, rxBufSize, descWrite, 0)
	g.offer(&g.rx, head)
}

// receive returns the next packet of the device without returning its buffer.
func (g *guest) receive() (head uint16, h header, data []byte, ok bool) {
	head, n, ok := g.used(&g.rx)
	if !ok {
		return 0, header{}, nil, false
	}
	b := g.ram[rxBufAt+uint64(head/2)*(headerSize+rxBufSize):][:n]
	h = parseHeader((*[headerSize]byte)(b))
	return head, h, b[headerSize : headerSize+h.length], true
}

// put offers a packet in tx slot i, as one descriptor, or two with data.
func (g *guest) put(slot int, h header, data []byte) {
	at := uint64(txBufAt + slot*(txBufSize+headerSize))
	raw := h.encode()
	copy(g.ram[at:], raw[:])
	id := uint16(2 * slot)
	if len(data) == 0 {
		g.desc(&g.tx, id, ramGPA+at, headerSize, 0, 0)
	} else {
		copy(g.ram[at+headerSize:], data)
		g.desc(&g.tx, id, ramGPA+at, headerSize, descNext, id+1)
		g.desc(&g.tx, id+1, ramGPA+at+headerSize, uint32(len(data)), 0, 0)
	}
	g.offer(&g.tx, id)
	g.notify(&g.tx)
}

// ended waits for Run's result.
func (g *guest) ended() error {
	g.t.Helper()
	err := waitFor(g.t, g.runErr)
	g.runErr <- err
	return err
}
