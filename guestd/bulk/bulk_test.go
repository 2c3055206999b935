// SPDX-License-Identifier: Apache-2.0

package bulk

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

func random(t *testing.T, n int) []byte {
	t.Helper()
	data := make([]byte, n)
	_, err := rand.Read(data)
	require.NoError(t, err)
	return data
}

// TestCodec compares with protobuf's own codec, over sizes on both sides of what
// is pooled, and holds that data stay as they are when the input is reused.
func TestCodec(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, minPooled - 1, minPooled, minPooled + 1, 512 << 10, 1 << 20} {
		data := random(t, size)
		for _, m := range []proto.Message{
			&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Stdin{Stdin: data}},
			&guestv1.FilesystemWriteRequest{Message: &guestv1.FilesystemWriteRequest_Data{Data: data}},
		} {
			raw, err := Codec{}.Marshal(m)
			require.NoError(t, err)
			got := m.ProtoReflect().New().Interface()
			require.NoError(t, Codec{}.Unmarshal(raw, got))
			clear(raw)
			require.True(t, proto.Equal(m, got), "%T of %d bytes", m, size)
		}
	}
}

// TestCodecOther holds that all else is protobuf's work: other messages, other
// fields of these, several fields, broken input.
func TestCodecOther(t *testing.T) {
	t.Parallel()
	big := random(t, minPooled)
	write := &guestv1.FilesystemWriteRequest{Message: &guestv1.FilesystemWriteRequest_Data{Data: big}}
	raw, err := proto.Marshal(write)
	require.NoError(t, err)
	// A field twice: the last one counts.
	small, err := proto.Marshal(&guestv1.FilesystemWriteRequest{Message: &guestv1.FilesystemWriteRequest_Data{Data: []byte("x")}})
	require.NoError(t, err)
	var got guestv1.FilesystemWriteRequest
	require.NoError(t, Codec{}.Unmarshal(append(bytes.Clone(raw), small...), &got))
	require.Equal(t, "x", string(got.GetData()))

	require.Error(t, Codec{}.Unmarshal(raw[:len(raw)-1], &got))
	require.Error(t, Codec{}.Unmarshal(raw, "text"))
	var start guestv1.ProcessRunRequest
	raw, err = proto.Marshal(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Start{Start: &guestv1.Start{ExecId: string(bytes.Repeat([]byte("a"), minPooled))}}})
	require.NoError(t, err)
	require.NoError(t, Codec{}.Unmarshal(raw, &start))
	require.Len(t, start.GetStart().GetExecId(), minPooled)
}

// TestRelease holds that data that were given back are used again, and that no
// data are that were not. Not parallel: it counts what is allocated.
func TestRelease(t *testing.T) {
	raw, err := Codec{}.Marshal(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Stdin{Stdin: random(t, minPooled)}})
	require.NoError(t, err)
	var kept [][]byte
	for range 20 {
		var m guestv1.ProcessRunRequest
		require.NoError(t, Codec{}.Unmarshal(raw, &m))
		for _, k := range kept {
			require.NotSame(t, &k[0], &m.GetStdin()[0])
		}
		kept = append(kept, m.GetStdin())
	}
	Release([]byte("small")) // does nothing
	const rounds = 1000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		var m guestv1.ProcessRunRequest
		require.NoError(t, Codec{}.Unmarshal(raw, &m))
		Release(m.GetStdin())
	}
	runtime.ReadMemStats(&after)
	// The race detector makes the pool lose a quarter.
	require.Less(t, (after.TotalAlloc-before.TotalAlloc)/rounds, uint64(minPooled/2))
}

// pieces counts the writes that reach net/http.
type pieces struct {
	*httptest.ResponseRecorder
	sizes []int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.sizes = append(p.sizes, len(b))
	return p.ResponseRecorder.Write(b)
}

func prefix(size int) []byte {
	return binary.BigEndian.AppendUint32([]byte{0}, uint32(size))
}

func TestJoin(t *testing.T) {
	t.Parallel()
	const stream = "application/connect+proto"
	big := random(t, 64<<10)
	for _, tc := range []struct {
		name, kind string
		writes     [][]byte // nil: Flush
		sizes      []int
	}{
		{"a message", stream, [][]byte{prefix(len(big)), big}, []int{len(big) + 5}},
		{"two", "application/grpc", [][]byte{prefix(len(big)), big, nil, prefix(len(big)), big}, []int{len(big) + 5, len(big) + 5}},
		{"small", stream, [][]byte{prefix(3), []byte("abc")}, []int{5, 3}},
		{"empty", stream, [][]byte{prefix(0), {}}, []int{5, 0}},
		{"larger than what is joined", stream, [][]byte{prefix(maxJoined + 1), make([]byte, maxJoined+1)}, []int{5, maxJoined + 1}},
		{"in pieces", stream, [][]byte{prefix(len(big)), big[:100], big[100:]}, []int{5, 100, len(big) - 100}},
		{"flush in between", stream, [][]byte{prefix(len(big)), nil, big}, []int{5, len(big)}},
		{"end in between", stream, [][]byte{prefix(len(big))}, []int{5}},
		{"no stream", "application/proto", [][]byte{prefix(len(big)), big}, []int{5, len(big)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := &pieces{ResponseRecorder: httptest.NewRecorder()}
			var want []byte
			Join(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tc.kind)
				for _, p := range tc.writes {
					if p == nil {
						w.(http.Flusher).Flush()
						continue
					}
					n, err := w.Write(p)
					require.NoError(t, err)
					require.Equal(t, len(p), n)
					want = append(want, p...)
				}
			})).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
			require.True(t, bytes.Equal(want, w.Body.Bytes()))
			require.Equal(t, tc.sizes, w.sizes)
		})
	}
}
