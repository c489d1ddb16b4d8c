package host

import "testing"

func TestParseMounts(t *testing.T) {
	const text = `22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
23 22 0:21 / /mnt/a\040b\011c\134d ro,nosuid shared:2 master:3 - tmpfs tmpfs rw,size=4k
24 22 0:22 /sub /data rw - btrfs /dev/vdb ro
25 22 0:23 / /srv rw - nfs server:/x
`
	mounts, err := parseMounts([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []mount{
		{"/", "ext4", "/dev/vda1", false}, {"/mnt/a b\tc\\d", "tmpfs", "tmpfs", true},
		{"/data", "btrfs", "/dev/vdb", true}, {"/srv", "nfs", "server:/x", false},
	}
	if len(mounts) != len(want) {
		t.Fatalf("got %v", mounts)
	}
	for i := range want {
		if mounts[i] != want[i] {
			t.Errorf("got %v, want %v", mounts[i], want[i])
		}
	}
	if _, err := parseMounts([]byte("what is this\n")); err == nil {
		t.Error("a line that is not understood must not be passed over")
	}
}
