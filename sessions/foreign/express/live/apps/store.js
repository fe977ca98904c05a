// Opens connect-redis in each of its versions. They differ in what they export and in
// which client they take; what they write into Redis is the same.
const Redis = require('ioredis')
const redis = require('redis')

const url = process.env.REDIS
const options = { prefix: process.env.PREFIX, ttl: process.env.TTL && Number(process.env.TTL), disableTouch: process.env.DISABLE_TOUCH === '1', disableTTL: process.env.DISABLE_TTL === '1' }
for (const name of Object.keys(options)) if (options[name] === undefined) delete options[name]

// quiet has a client go on while Redis is away, as each application must.
const quiet = (client) => client.on('error', () => {})
const ioredis = () => quiet(new Redis(url, { keyPrefix: process.env.KEY_PREFIX || '', maxRetriesPerRequest: 1 }))
const nodeRedis = () => {
  const client = quiet(redis.createClient({ url, disableOfflineQueue: true }))
  client.connect()
  return client
}

const stores = {
  6: (session) => new (require('connect-redis-6')(session))({ client: ioredis(), ...options }),
  7: () => new (require('connect-redis-7').default)({ client: ioredis(), ...options }),
  8: () => new (require('connect-redis-8').RedisStore)({ client: ioredis(), ...options }),
  9: () => new (require('connect-redis-9').RedisStore)({ client: nodeRedis(), ...options })
}

// sessions is express-session over the store that STORE names.
module.exports = () => {
  const session = require(process.env.SESSION || 'express-session')
  return session({
    store: stores[process.env.STORE](session),
    name: process.env.COOKIE,
    secret: process.env.SECRETS.split(','), // the first signs, all verify
    resave: process.env.RESAVE === '1',
    saveUninitialized: false,
    rolling: process.env.ROLLING === '1',
    cookie: process.env.MAX_AGE ? { maxAge: Number(process.env.MAX_AGE) } : {},
    ...(process.env.UUID === '1' && { genid: () => require('node:crypto').randomUUID() })
  })
}
