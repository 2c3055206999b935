// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strconv"
	"testing"
	"testing/iotest"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

func piece(data string) *guestv1.FilesystemReadResponse {
	return &guestv1.FilesystemReadResponse{Message: &guestv1.FilesystemReadResponse_Data{Data: []byte(data)}}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	entry := &guestv1.FilesystemReadResponse{Message: &guestv1.FilesystemReadResponse_Entry{Entry: &guestv1.Entry{Size: 6}}}
	for _, tc := range []struct {
		name  string
		sends []*guestv1.FilesystemReadResponse
		limit uint64
		want  string
		err   string
	}{
		{"whole", []*guestv1.FilesystemReadResponse{entry, piece("abc"), piece("def")}, 0, "abcdef", ""},
		{"limit", []*guestv1.FilesystemReadResponse{entry, piece("abc")}, 3, "abc", ""},
		{"more than asked for", []*guestv1.FilesystemReadResponse{entry, piece("abc"), piece("d")}, 3, "abc", "more than was asked"},
		{"no entry", []*guestv1.FilesystemReadResponse{piece("abc")}, 0, "abc", "did not describe"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, _ := serve(t, &fake{read: func(
				_ *guestv1.FilesystemReadRequest, s *connect.ServerStream[guestv1.FilesystemReadResponse],
			) error {
				for _, m := range tc.sends {
					if err := s.Send(m); err != nil {
						return err
					}
				}
				return nil
			}})
			var out bytes.Buffer
			e, err := c.ReadFile(t.Context(), &guestv1.FilesystemReadRequest{Path: "/f", Limit: tc.limit}, &out)
			require.Equal(t, tc.want, out.String())
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, uint64(6), e.GetSize())
		})
	}
}

// sink takes a write as guestd does: it commits only a stream that was closed.
func sink(committed chan<- []byte) func(*connect.ClientStream[guestv1.FilesystemWriteRequest]) (*guestv1.FilesystemWriteResponse, error) {
	return func(s *connect.ClientStream[guestv1.FilesystemWriteRequest]) (*guestv1.FilesystemWriteResponse, error) {
		var data []byte
		for s.Receive() {
			data = append(data, s.Msg().GetData()...)
		}
		if err := s.Err(); err != nil {
			committed <- nil
			return nil, err
		}
		committed <- data
		return &guestv1.FilesystemWriteResponse{BytesWritten: uint64(len(data))}, nil
	}
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	committed := make(chan []byte, 1)
	c, _ := serve(t, &fake{write: sink(committed)})
	want := make([]byte, 3<<20+17)
	_, _ = rand.Read(want)
	resp, err := c.WriteFile(t.Context(), &guestv1.WriteOpen{Path: "/f"}, bytes.NewReader(want))
	require.NoError(t, err)
	require.Equal(t, uint64(len(want)), resp.GetBytesWritten())
	require.True(t, bytes.Equal(want, <-committed))
}

// TestWriteFileBrokenSource must break the stream: closing it would commit half
// a file.
func TestWriteFileBrokenSource(t *testing.T) {
	t.Parallel()
	committed := make(chan []byte, 1)
	c, _ := serve(t, &fake{write: sink(committed)})
	_, err := c.WriteFile(t.Context(), &guestv1.WriteOpen{Path: "/f"}, iotest.ErrReader(errors.New("bad sector")))
	require.ErrorContains(t, err, "bad sector")
	require.Nil(t, <-committed)
}

// TestWriteFileCancelled ends ctx in the middle, often: whether the client's side is
// seen as complete is a race when it is closed after that.
func TestWriteFileCancelled(t *testing.T) {
	t.Parallel()
	committed := make(chan []byte, 1)
	c, _ := serve(t, &fake{write: sink(committed)})
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		half := io.MultiReader(bytes.NewReader(make([]byte, 600<<10)), readerFunc(func(p []byte) (int, error) {
			cancel()
			return len(p), nil // and so on, for ever
		}))
		_, err := c.WriteFile(ctx, &guestv1.WriteOpen{Path: "/f"}, half)
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, len(<-committed), "half a file")
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestWriteFileRefused(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, &fake{write: func(*connect.ClientStream[guestv1.FilesystemWriteRequest]) (*guestv1.FilesystemWriteResponse, error) {
		return nil, connect.NewError(connect.CodeResourceExhausted, errors.New("disk full"))
	}})
	_, err := c.WriteFile(t.Context(), &guestv1.WriteOpen{Path: "/f"}, bytes.NewReader(make([]byte, 8<<20)))
	require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err))
}

func TestList(t *testing.T) {
	t.Parallel()
	pages := func(n, size int) func(*guestv1.FilesystemListRequest) (*guestv1.FilesystemListResponse, error) {
		return func(req *guestv1.FilesystemListRequest) (*guestv1.FilesystemListResponse, error) {
			at, _ := strconv.Atoi(req.GetPageToken())
			resp := &guestv1.FilesystemListResponse{}
			for i := at; i < min(at+size, n); i++ {
				resp.Entries = append(resp.Entries, &guestv1.Entry{Path: "/" + strconv.Itoa(i)})
			}
			if at+size < n {
				resp.NextPageToken = strconv.Itoa(at + size)
			}
			return resp, nil
		}
	}
	for _, tc := range []struct {
		name           string
		n, size, limit int
		want           int
		truncated      bool
	}{
		{"pages", 10, 3, 100, 10, false},
		{"limit within a page", 10, 3, 4, 4, true},
		{"limit at the end of a page", 10, 3, 6, 6, true},
		{"limit at the end", 9, 3, 9, 9, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, _ := serve(t, &fake{list: pages(tc.n, tc.size)})
			l, err := c.List(t.Context(), &guestv1.FilesystemListRequest{Path: "/"}, tc.limit)
			require.NoError(t, err)
			require.Len(t, l.Entries, tc.want)
			require.Equal(t, tc.truncated, l.Truncated)
			require.Equal(t, "/"+strconv.Itoa(tc.want-1), l.Entries[tc.want-1].GetPath())
		})
	}
	t.Run("for ever", func(t *testing.T) {
		t.Parallel()
		c, _ := serve(t, &fake{list: func(*guestv1.FilesystemListRequest) (*guestv1.FilesystemListResponse, error) {
			return &guestv1.FilesystemListResponse{NextPageToken: "again"}, nil
		}})
		_, err := c.List(t.Context(), &guestv1.FilesystemListRequest{Path: "/"}, 10)
		require.ErrorContains(t, err, "empty page")
	})
}

func TestInstall(t *testing.T) {
	t.Parallel()
	line := &guestv1.PackagesInstallResponse{Message: &guestv1.PackagesInstallResponse_Line{Line: "Collecting six"}}
	done := &guestv1.PackagesInstallResponse{Message: &guestv1.PackagesInstallResponse_Done{
		Done: &guestv1.InstallDone{Installed: []string{"six 1.16.0"}},
	}}
	for _, tc := range []struct {
		name string
		last []*guestv1.PackagesInstallResponse
		err  string
	}{
		{"done", []*guestv1.PackagesInstallResponse{done}, ""},
		{"cut", nil, "without a result"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, _ := serve(t, &fake{install: func(s *connect.ServerStream[guestv1.PackagesInstallResponse]) error {
				for _, m := range append([]*guestv1.PackagesInstallResponse{line}, tc.last...) {
					if err := s.Send(m); err != nil {
						return err
					}
				}
				return nil
			}})
			var lines []string
			res, err := c.Install(t.Context(), &guestv1.PackagesInstallRequest{}, guest.InstallProgress{
				Line: func(l string) { lines = append(lines, l) },
			})
			require.Equal(t, []string{"Collecting six"}, lines)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, []string{"six 1.16.0"}, res.GetInstalled())
		})
	}
}
