-- Jobs of each queue of RQ by their status, and its workers. Prometheus makes names and labels of the keys.
local found = {}
local function add(name, status, queue, value)
    found[#found + 1] = name .. " " .. status .. " " .. queue
    found[#found + 1] = tostring(value)
end

local registries = {started = "wip", finished = "finished", failed = "failed", deferred = "deferred", scheduled = "scheduled"}
for _, key in ipairs(redis.call("SMEMBERS", "rq:queues")) do
    local queue = key:sub(#"rq:queue:" + 1)
    add("rq_jobs", "queued", queue, redis.call("LLEN", key))
    for status, registry in pairs(registries) do
        add("rq_jobs", status, queue, redis.call("ZCARD", "rq:" .. registry .. ":" .. queue))
    end
end

-- Of a worker that was killed, the key expires, and only its name stays in the list.
local workers = {}
for _, key in ipairs(redis.call("SMEMBERS", "rq:workers")) do
    for queue in (redis.call("HGET", key, "queues") or ""):gmatch("[^,]+") do
        workers[queue] = (workers[queue] or 0) + 1
    end
end
for queue, count in pairs(workers) do
    add("rq_workers", "", queue, count)
end
return found
