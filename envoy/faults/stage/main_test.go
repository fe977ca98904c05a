package stage

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// asClient has the test program be a client: its value is the way, as an environment.
const asClient = "STAGE_TEST_CLIENT"

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// TestMain fails if a goroutine is left over.
func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	if os.Getenv(asClient) != "" {
		beClient()
		return
	}
	goleak.VerifyTestMain(m)
}

// beClient asks Redis all the time, as a replica of Coatcheck does, and writes a line for
// each answer.
func beClient() {
	config := redisstore.At(strings.Split(os.Getenv("COATCHECK_REDIS_ADDRESSES"), ",")...)
	config.PasswordFile = os.Getenv("COATCHECK_REDIS_PASSWORD_FILE")
	config.MasterName = os.Getenv("COATCHECK_REDIS_MASTER_NAME")
	config.IsClusterMode = os.Getenv("COATCHECK_REDIS_CLUSTER") == "true"
	if file := os.Getenv("COATCHECK_REDIS_SENTINEL_PASSWORD_FILE"); file != "" {
		text, _ := os.ReadFile(file)
		config.SentinelPassword = strings.TrimSpace(string(text))
	}
	client, err := redisstore.NewClient(config)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
		err := client.HMGet(ctx, fmt.Sprintf("session:client-%d", i%50), "user_id").Err()
		cancel()
		line := "ok"
		if err != nil {
			line = err.Error()
		}
		if _, err := fmt.Println(line); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
