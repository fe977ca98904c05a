package stage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// What sock_diag(7) says: the sizes of a question and of an answer, and where they hold what
// is needed here.
const (
	sockDiag    = 4  // NETLINK_SOCK_DIAG
	byFamily    = 20 // SOCK_DIAG_BY_FAMILY
	diagRequest = 56 // inet_diag_req_v2
	diagID      = 8  // inet_diag_sockid, in a request
	diagInode   = 68 // idiag_inode, in an answer
)

// inodeOf asks the kernel for the socket with this address of its own and this one of the
// other side. It takes the whole pair, since one port may be that of connections to several
// addresses; and it takes no time, where /proc/net/tcp lists every connection of the machine.
func inodeOf(own, other net.Addr) (uint32, error) {
	from, ok1 := own.(*net.TCPAddr)
	to, ok2 := other.(*net.TCPAddr)
	if !ok1 || !ok2 || from.IP.To4() == nil || to.IP.To4() == nil {
		return 0, errors.New("stage: no addresses of TCP over IPv4")
	}
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, sockDiag)
	if err != nil {
		return 0, err
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := syscall.Sendto(fd, question(from, to), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return 0, err
	}
	buffer := make([]byte, 4096)
	n, _, err := syscall.Recvfrom(fd, buffer, 0)
	if err != nil {
		return 0, err
	}
	messages, err := syscall.ParseNetlinkMessage(buffer[:n])
	if err != nil {
		return 0, err
	}
	if len(messages) == 0 || messages[0].Header.Type != byFamily || len(messages[0].Data) < diagInode+4 {
		return 0, fmt.Errorf("stage: the kernel knows no connection from %v to %v", own, other)
	}
	return binary.NativeEndian.Uint32(messages[0].Data[diagInode:]), nil
}

// question is a netlink message that asks for one socket.
func question(from, to *net.TCPAddr) []byte {
	m := make([]byte, syscall.NLMSG_HDRLEN+diagRequest)
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint16(m[4:], byFamily)
	binary.NativeEndian.PutUint16(m[6:], syscall.NLM_F_REQUEST)
	request := m[syscall.NLMSG_HDRLEN:]
	request[0], request[1] = syscall.AF_INET, syscall.IPPROTO_TCP
	binary.NativeEndian.PutUint32(request[4:], ^uint32(0)) // in any state
	id := request[diagID:]
	binary.BigEndian.PutUint16(id, uint16(from.Port))
	binary.BigEndian.PutUint16(id[2:], uint16(to.Port))
	copy(id[4:], from.IP.To4())
	copy(id[20:], to.IP.To4())
	for i := 40; i < 48; i++ { // no cookie
		id[i] = 0xff
	}
	return m
}
