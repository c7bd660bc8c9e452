-- each column says which table it is of: dbt-ol takes column lineage from this text alone
select
    cast(predictions.ts as date) as day,
    sum(predictions.prediction) as predicted,
    sum(rentals.cnt) as actual,
    avg(rentals.temp) as temp
from {{ source('bikes', 'demand_predictions') }} as predictions
inner join {{ source('bikes', 'hourly_rentals') }} as rentals on predictions.ts = rentals.ts
group by 1
