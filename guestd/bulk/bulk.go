// SPDX-License-Identifier: Apache-2.0

// Package bulk takes large messages in and sends them without leaving garbage
// and without needless frames. Under emulation a stream is bound by guestd's
// instructions: collecting what each message left took a third of them.
package bulk

import (
	"fmt"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// minPooled is the least data for which the pool is worth it, in bytes.
	minPooled = 32 << 10
	// Field numbers in process.proto and filesystem.proto.
	stdinField = 3
	dataField  = 2
)

// buffers holds *[]byte of at least minPooled.
var buffers sync.Pool

// Codec is connect's codec for binary protobuf. The large data of
// ProcessRunRequest.stdin and FilesystemWriteRequest.data come from a pool:
// Release gives them back.
type Codec struct{}

// Name implements connect.Codec.
func (Codec) Name() string { return "proto" }

// Marshal implements connect.Codec.
func (c Codec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend lets connect reuse its buffers.
func (Codec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", message)
	}
	return proto.MarshalOptions{}.MarshalAppend(dst, m)
}

// Unmarshal implements connect.Codec. It keeps nothing of raw.
func (Codec) Unmarshal(raw []byte, message any) error {
	switch m := message.(type) {
	case *guestv1.ProcessRunRequest:
		if data, ok := only(raw, stdinField); ok {
			m.Message = &guestv1.ProcessRunRequest_Stdin{Stdin: pooled(data)}
			return nil
		}
	case *guestv1.FilesystemWriteRequest:
		if data, ok := only(raw, dataField); ok {
			m.Message = &guestv1.FilesystemWriteRequest_Data{Data: pooled(data)}
			return nil
		}
	}
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no protobuf message", message)
	}
	return proto.Unmarshal(raw, m)
}

// only returns the bytes of a message that has this one field and nothing else,
// when they are many.
func only(raw []byte, field protowire.Number) ([]byte, bool) {
	number, kind, n := protowire.ConsumeTag(raw)
	if n < 0 || number != field || kind != protowire.BytesType {
		return nil, false
	}
	data, m := protowire.ConsumeBytes(raw[n:])
	return data, m >= 0 && n+m == len(raw) && len(data) >= minPooled
}

// pooled copies data into a buffer of the pool.
func pooled(data []byte) []byte {
	return append(get(len(data)), data...)
}

// get returns an empty slice with room for n bytes.
func get(n int) []byte {
	if buf, ok := buffers.Get().(*[]byte); ok && cap(*buf) >= n {
		return (*buf)[:0]
	}
	return make([]byte, 0, n)
}

// Release gives back data of a message that Codec has taken in. Nobody may use
// it any more. What did not come from the pool does no harm.
func Release(data []byte) {
	if cap(data) >= minPooled {
		buffers.Put(&data)
	}
}
