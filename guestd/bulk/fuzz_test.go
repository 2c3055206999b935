// SPDX-License-Identifier: Apache-2.0

package bulk

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// requests are the messages that guestd decodes: those of every method of every
// service.
func requests(f *testing.F) []protoreflect.MessageType {
	f.Helper()
	var types []protoreflect.MessageType
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(file.Package()), "waggle.guest.") {
			return true
		}
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				kind, err := protoregistry.GlobalTypes.FindMessageByName(methods.Get(j).Input().FullName())
				require.NoError(f, err)
				types = append(types, kind)
			}
		}
		return true
	})
	require.Greater(f, len(types), 15)
	return types
}

// FuzzCodec takes any bytes as a message of every request, with a run of zeros
// behind them so that some reach the size that is pooled: each is what protobuf's
// own decoder makes of it, or refused as there.
func FuzzCodec(f *testing.F) {
	types := requests(f)
	for _, msg := range []proto.Message{
		&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Stdin{Stdin: make([]byte, minPooled)}},
		&guestv1.FilesystemWriteRequest{Message: &guestv1.FilesystemWriteRequest_Data{Data: make([]byte, minPooled)}},
		&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Start{Start: &guestv1.Start{ExecId: "a"}}},
	} {
		data, err := proto.Marshal(msg)
		require.NoError(f, err)
		zeros := min(minPooled, len(data)-4)
		if zeros < minPooled/2 {
			zeros = 0
		}
		f.Add(data[:len(data)-zeros], uint32(zeros))
	}
	f.Fuzz(func(t *testing.T, data []byte, zeros uint32) {
		raw := append(data[:len(data):len(data)], make([]byte, zeros%(2*minPooled))...)
		for _, kind := range types {
			want, got := kind.New().Interface(), kind.New().Interface()
			wantErr := proto.Unmarshal(raw, want)
			err := Codec{}.Unmarshal(raw, got)
			require.Equal(t, wantErr == nil, err == nil, "%s: %v", kind.Descriptor().FullName(), err)
			if err == nil {
				// Not Equal: a NaN is not itself.
				wantRaw, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
				require.NoError(t, err)
				gotRaw, err := Codec{}.Marshal(got)
				require.NoError(t, err)
				require.Len(t, gotRaw, len(wantRaw), "%s", kind.Descriptor().FullName())
			}
		}
	})
}
